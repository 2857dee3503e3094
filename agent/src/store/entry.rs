//! What the store has under its keys, and what happened to them.

use bytes::Bytes;

/// One key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key as text.
    pub key: String,
    /// The value as it was written.
    pub value: Bytes,
    /// The revision that wrote it last.
    pub mod_revision: i64,
    /// The lease that it is bound to, or 0.
    pub lease: i64,
}

/// Everything in a range at one revision, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The revision that it shows.
    pub revision: i64,
    /// The keys and values.
    pub entries: Vec<Entry>,
    /// How many answers of the store they came in.
    pub pages: u32,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvent {
    /// The key as text.
    pub key: String,
    /// What it has now; `None`: it was deleted.
    pub entry: Option<Entry>,
}

/// News of a followed range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All there is: it replaces everything that was known.
    Snapshot(Listing),
    /// What happened since. The events of one revision always come together, and in order.
    Events {
        /// The revision of the last event: all changes up to it are known now.
        revision: i64,
        /// What happened.
        events: Vec<KeyEvent>,
    },
}
