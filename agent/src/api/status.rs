//! A refusal as a gRPC status: the kind becomes the code, the sentence the message.

use tonic::{Code, Status};

use crate::{intent::LookupError, service::ServiceError};

/// The status of a refusal.
pub(super) fn of(error: &ServiceError) -> Status {
    let code = match error {
        ServiceError::Invalid(_)
        | ServiceError::Lookup(
            LookupError::Ambiguous { .. } | LookupError::Shared { .. } | LookupError::TwoScopes { .. },
        ) => Code::InvalidArgument,
        ServiceError::Lookup(LookupError::Unknown { .. }) => Code::NotFound,
        ServiceError::Exists(_) => Code::AlreadyExists,
        ServiceError::InUse(_) | ServiceError::Kernel(_) | ServiceError::Held(_) => Code::FailedPrecondition,
        ServiceError::Exhausted(_) => Code::ResourceExhausted,
        ServiceError::StoreAway(_) => Code::Unavailable,
        ServiceError::Busy(_) => Code::Aborted,
        ServiceError::Missing(_) => Code::Unimplemented,
        ServiceError::Internal(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}
