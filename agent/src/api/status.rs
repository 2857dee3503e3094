//! A refusal as a gRPC status: the kind becomes the code, the sentence the message.

use tonic::{Code, Status};

use crate::service::{ErrorKind, ServiceError};

/// The status of a refusal.
pub(super) fn of(error: &ServiceError) -> Status {
    let code = match error.kind() {
        ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Unknown => Code::NotFound,
        ErrorKind::Exists => Code::AlreadyExists,
        ErrorKind::State => Code::FailedPrecondition,
        ErrorKind::Exhausted => Code::ResourceExhausted,
        ErrorKind::Away => Code::Unavailable,
        ErrorKind::Busy => Code::Aborted,
        ErrorKind::Missing => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{intent::LookupError, model::Invalid};

    #[test]
    fn each_refusal_has_the_status_that_the_api_promises() {
        let text = || "why".to_owned();
        let unknown = LookupError::Unknown { noun: "network", text: text(), hint: None };
        let ambiguous = LookupError::Ambiguous { noun: "network", text: text(), count: 2 };
        for (error, code) in [
            (Invalid::new("name", "a b", "why").into(), Code::InvalidArgument),
            (unknown.into(), Code::NotFound),
            (ambiguous.into(), Code::InvalidArgument),
            (ServiceError::Exists(text()), Code::AlreadyExists),
            (ServiceError::InUse(text()), Code::FailedPrecondition),
            (ServiceError::Kernel(text()), Code::FailedPrecondition),
            (ServiceError::Held(text()), Code::FailedPrecondition),
            (ServiceError::Exhausted(text()), Code::ResourceExhausted),
            (ServiceError::StoreAway(text()), Code::Unavailable),
            (ServiceError::Busy(text()), Code::Aborted),
            (ServiceError::Missing(text()), Code::Unimplemented),
            (ServiceError::Internal(text()), Code::Internal),
        ] {
            let status = of(&error);
            assert_eq!(status.code(), code, "{error:?}");
            assert_eq!(status.message(), error.to_string(), "{error:?}");
            assert!(CODES.iter().any(|(known, _)| *known == code), "{code:?}");
        }
    }

    /// Every code that a call can end with, as api.proto spells it: those of refusals, then those of `events` and `closing`.
    const CODES: [(Code, &str); 11] = [
        (Code::InvalidArgument, "INVALID_ARGUMENT"),
        (Code::NotFound, "NOT_FOUND"),
        (Code::AlreadyExists, "ALREADY_EXISTS"),
        (Code::FailedPrecondition, "FAILED_PRECONDITION"),
        (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
        (Code::Aborted, "ABORTED"),
        (Code::Unavailable, "UNAVAILABLE"),
        (Code::Unimplemented, "UNIMPLEMENTED"),
        (Code::Internal, "INTERNAL"),
        (Code::DataLoss, "DATA_LOSS"),
        (Code::Cancelled, "CANCELLED"),
    ];

    /// The words of a comment that are written as codes are.
    fn codes(comment: &str) -> impl Iterator<Item = &str> {
        let words = comment.split(|letter: char| letter != '_' && !letter.is_ascii_uppercase());
        words.filter(|word| word.len() > 4)
    }

    #[test]
    fn each_call_lists_its_statuses_and_each_status_is_explained() {
        let text = include_str!("../../../proto/ov/v1/api.proto");
        let (head, service) = text.split_once("service Agent {").unwrap();
        let service = service.split_once("\n}").unwrap().0;
        let explained: Vec<&str> = head.lines().filter_map(|line| codes(line).next()).collect();
        let (mut listed, mut own) = (BTreeSet::new(), Vec::new());
        for line in service.lines().map(str::trim) {
            if let Some(comment) = line.strip_prefix("//") {
                own.extend(codes(comment));
            } else if let Some(call) = line.strip_prefix("rpc ") {
                assert_eq!(own.is_empty(), call.starts_with("Version("), "{call}");
                listed.extend(own.drain(..));
            }
        }
        for (code, name) in CODES {
            assert!(explained.contains(&name), "{code:?} is not explained");
            // Every call ends so, and none lists it.
            assert_eq!(listed.remove(name), code != Code::Cancelled, "{code:?}");
        }
        assert!(listed.is_empty(), "no call ends with these: {listed:?}");
    }
}
