//! Where the history of the whole store stands.

/// The numbers of the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The latest revision; 1 is the empty store.
    pub(super) revision: i64,
    /// The revision up to which history is gone.
    pub(super) compacted: i64,
    /// Bytes of the history.
    pub(super) log_bytes: i64,
}
