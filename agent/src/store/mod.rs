//! List, follow and commit on the etcd v3 API: a real etcd, or the [`embedded`] server in this process.
//!
//! The truth for intent lives here. [`Store`] reads and changes it, [`follow()`] keeps a copy of it up to date, [`hold()`]
//! keeps a leased key alive. This is the only room that imports etcd-client; what the values mean is `convert`'s.

mod backoff;
mod client;
mod commit;
pub mod embedded;
mod endpoint;
mod entry;
mod error;
mod follow;
mod history;
mod hold;
mod keys;
mod lease;
mod list;
mod outcome;
mod range;
mod reach;
mod transact;
mod wire;

pub use client::{Health, Store};
pub use commit::{Commit, CommitError, Guard, GuardRefusal, Write};
pub use embedded::Embedded;
pub use endpoint::{EtcdConfig, TlsPaths};
pub use entry::{Change, Entry, KeyEvent, Listing};
pub use error::{Cause, Retry, StoreError};
pub use follow::{StoreStatus, follow};
pub use hold::{Claim, IsOurs, Tenure, hold, hold_claim};
pub use keys::{Identity, Key};
pub use range::KeyRange;
