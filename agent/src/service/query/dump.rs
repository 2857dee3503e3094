//! `store dump`: every key of both stores.

use bytes::Bytes;

use super::super::{Service, ServiceError};
use crate::{
    kernel::Kernel,
    model::Scope,
    store::{Entry, Key, KeyRange},
};

/// A key of a store with its value, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreRecord {
    /// Whose store: the cluster's, or this host's own.
    pub scope: Scope,
    /// The key as text.
    pub key: String,
    /// Its value: bytes of the message that its kind has, or text.
    pub value: Bytes,
    /// The revision that wrote it last.
    pub mod_revision: i64,
}

/// What the value under a key is a record of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A network.
    Network,
    /// An endpoint.
    Endpoint,
    /// A node's part in a network.
    Member,
    /// A node.
    Node,
    /// Who has an address.
    AddressOwner,
    /// A sandbox.
    Sandbox,
    /// No record: text, or a key that is not ours.
    Text,
}

impl StoreRecord {
    /// What its value is a record of, by its key.
    pub fn kind(&self) -> RecordKind {
        match self.key.parse::<Key>().as_ref().map(Key::bare) {
            Ok(Key::Network(_)) => RecordKind::Network,
            Ok(Key::Endpoint(..)) => RecordKind::Endpoint,
            Ok(Key::Member(..)) => RecordKind::Member,
            Ok(Key::Node(_)) => RecordKind::Node,
            Ok(Key::Address(..) | Key::Mac(..)) => RecordKind::AddressOwner,
            Ok(Key::Sandbox(_)) => RecordKind::Sandbox,
            Ok(
                Key::NetworkName(_)
                | Key::Vni(_)
                | Key::EndpointName(..)
                | Key::Alive(_)
                | Key::Pool(_)
                | Key::Here(_)
                | Key::Leg(_)
                | Key::Sysctl(_)
                | Key::Identity(_),
            )
            | Err(_) => RecordKind::Text,
        }
    }
}

impl<K: Kernel> Service<K> {
    /// Every key of both stores, the cluster's first.
    ///
    /// # Errors
    /// A store is away.
    pub async fn dump(&self) -> Result<Vec<StoreRecord>, ServiceError> {
        let mut records = Vec::new();
        for (scope, range) in [(Scope::Global, KeyRange::everything()), (Scope::Local, KeyRange::local())] {
            let entries = self.store(scope).list(&range).await?.entries;
            records.extend(entries.into_iter().map(|Entry { key, value, mod_revision, .. }| StoreRecord {
                scope,
                key,
                value,
                mod_revision,
            }));
        }
        Ok(records)
    }
}
