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
