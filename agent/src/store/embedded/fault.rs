//! Why the server says no, in etcd's own words: clients know these texts.

use std::path::{Path, PathBuf};

use tonic::Status;

/// A refused or failed request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("etcdserver: key is not provided")]
    NoKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: request is too large")]
    TooLarge,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    #[error("etcdserver: mvcc: required revision is a future revision")]
    Future,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTooLong,
    #[error("ovnet: the embedded store has too many leases")]
    LeaseTooMany,
    #[error("etcdserver: permission denied: this store serves only keys under /ovnet/v1/")]
    NotServed,
    #[error("ovnet: the embedded store does not support {0}; use a real etcd for it")]
    Unsupported(&'static str),
    #[error("ovnet: the embedded store has a record that cannot be read: {0}")]
    Record(#[from] prost::DecodeError),
    #[error("ovnet: the embedded store cannot reach its file: {0}")]
    Storage(Box<redb::Error>),
    #[error("ovnet: the embedded store cannot read or write its file {}: {error}", file.display())]
    File { file: PathBuf, error: Box<redb::Error> },
    #[error("ovnet: the embedded store is shutting down")]
    Closing,
}

impl Fault {
    /// The file could not be read or written.
    pub(super) fn is_io(&self) -> bool {
        let (Self::Storage(error) | Self::File { error, .. }) = self else { return false };
        matches!(**error, redb::Error::Io(_) | redb::Error::PreviousIo)
    }

    /// The same with the name of the file, where it is about the file.
    pub(super) fn of(self, file: &Path) -> Self {
        if let Self::Storage(error) = self { Self::File { file: file.to_owned(), error } } else { self }
    }

    /// For an error about the file itself.
    pub(super) fn into_storage(self) -> redb::Error {
        if let Self::Storage(error) | Self::File { error, .. } = self {
            *error
        } else {
            redb::Error::Corrupted(self.to_string())
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let text = fault.to_string();
        match fault {
            Fault::NoKey
            | Fault::KeyNotFound
            | Fault::ValueProvided
            | Fault::LeaseProvided
            | Fault::TooManyOps
            | Fault::DuplicateKey
            | Fault::TooLarge => Self::invalid_argument(text),
            Fault::Compacted | Fault::Future | Fault::LeaseTooLong => Self::out_of_range(text),
            Fault::LeaseNotFound => Self::not_found(text),
            Fault::LeaseExists => Self::failed_precondition(text),
            Fault::NotServed => Self::permission_denied(text),
            Fault::LeaseTooMany => Self::resource_exhausted(text),
            Fault::Unsupported(_) => Self::unimplemented(text),
            Fault::Record(_) | Fault::Storage(_) | Fault::File { .. } => Self::data_loss(text),
            Fault::Closing => Self::unavailable(text),
        }
    }
}

macro_rules! storage {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Storage(Box::new(error.into()))
            }
        }
    )*};
}
storage!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);
