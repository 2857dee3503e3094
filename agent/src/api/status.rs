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
        }
    }
}
