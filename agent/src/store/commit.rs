//! A change: guards that must hold, and writes that then happen together or not at all.

use bytes::Bytes;

use super::{Entry, Key, KeyRange, StoreError};
use crate::model::Scope;

/// Guards, or writes, of one commit. etcd's own limit is 128 (`--max-txn-ops`).
const OPS_MAX: usize = 120;
/// Keys and values of one commit, in bytes. etcd's own limit is 1.5 MiB (`--max-request-bytes`).
const BYTES_MAX: usize = 1 << 20;

/// One transaction, built up call by call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// What must hold.
    pub guards: Vec<Guard>,
    /// What then happens.
    pub writes: Vec<Write>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Absent(Key),
    /// The key exists.
    Present(Key),
    /// The key was last written at this revision (0: it does not exist).
    Unchanged(Key, i64),
    /// The key has this value.
    Is(Key, Bytes),
}

/// A change of one key, or of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Give the key this value.
    Put(Key, Bytes),
    /// The same, and delete it when this lease expires.
    PutLeased(Key, Bytes, i64),
    /// Delete the key, if it is there.
    Delete(Key),
    /// Delete all keys of the range.
    DeleteRange(KeyRange),
}

/// A guard that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardRefusal {
    /// The guard.
    pub guard: Guard,
    /// What the store has under its key.
    pub found: Option<Entry>,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// These guards did not hold; nothing was changed.
    #[error("the store was changed at the same time: {}", list(.0))]
    Refused(Vec<GuardRefusal>),
    /// The store could not be asked, or did not accept it. See [`StoreError::retry`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(refusals: &[GuardRefusal]) -> String {
    let texts: Vec<String> = refusals
        .iter()
        .map(|refusal| match (&refusal.guard, &refusal.found) {
            (Guard::Absent(key), _) => format!("{key} exists already"),
            (Guard::Present(key) | Guard::Unchanged(key, _) | Guard::Is(key, _), None) => {
                format!("{key} does not exist")
            }
            (Guard::Present(key) | Guard::Unchanged(key, _) | Guard::Is(key, _), Some(entry)) => {
                format!("{key} was changed at revision {}", entry.mod_revision)
            }
        })
        .collect();
    texts.join(", ")
}

impl Guard {
    /// The key that it looks at.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Present(key) | Self::Unchanged(key, _) | Self::Is(key, _) => key,
        }
    }

    /// Whether it holds with this under its key.
    pub fn holds(&self, found: Option<&Entry>) -> bool {
        match self {
            Self::Absent(_) => found.is_none(),
            Self::Present(_) => found.is_some(),
            Self::Unchanged(_, revision) => found.map_or(0, |entry| entry.mod_revision) == *revision,
            Self::Is(_, value) => found.is_some_and(|entry| entry.value == *value),
        }
    }
}

impl Commit {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same change in the store that has the networks of this scope: see [`Key::in_scope`].
    #[must_use]
    pub fn in_scope(self, scope: Scope) -> Self {
        let guard = |guard| match guard {
            Guard::Absent(key) => Guard::Absent(key.in_scope(scope)),
            Guard::Present(key) => Guard::Present(key.in_scope(scope)),
            Guard::Unchanged(key, revision) => Guard::Unchanged(key.in_scope(scope), revision),
            Guard::Is(key, value) => Guard::Is(key.in_scope(scope), value),
        };
        let write = |write| match write {
            Write::Put(key, value) => Write::Put(key.in_scope(scope), value),
            Write::PutLeased(key, value, lease) => Write::PutLeased(key.in_scope(scope), value, lease),
            Write::Delete(key) => Write::Delete(key.in_scope(scope)),
            Write::DeleteRange(range) => Write::DeleteRange(range.in_scope(scope)),
        };
        Self {
            guards: self.guards.into_iter().map(guard).collect(),
            writes: self.writes.into_iter().map(write).collect(),
        }
    }

    /// Only if the key does not exist.
    #[must_use]
    pub fn absent(mut self, key: Key) -> Self {
        self.guards.push(Guard::Absent(key));
        self
    }

    /// Only if the key exists.
    #[must_use]
    pub fn present(mut self, key: Key) -> Self {
        self.guards.push(Guard::Present(key));
        self
    }

    /// Only if the key was last written at `mod_revision`.
    #[must_use]
    pub fn unchanged(mut self, key: Key, mod_revision: i64) -> Self {
        self.guards.push(Guard::Unchanged(key, mod_revision));
        self
    }

    /// Only if the key has this value.
    #[must_use]
    pub fn is(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.guards.push(Guard::Is(key, value.into()));
        self
    }

    /// Give the key this value.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put(key, value.into()));
        self
    }

    /// Give the key this value for as long as the lease lives.
    #[must_use]
    pub fn put_leased(mut self, key: Key, value: impl Into<Bytes>, lease: i64) -> Self {
        self.writes.push(Write::PutLeased(key, value.into(), lease));
        self
    }

    /// Delete the key, if it is there.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.writes.push(Write::Delete(key));
        self
    }

    /// Delete all keys of the range. It must not hold a key that the same commit puts.
    #[must_use]
    pub fn delete_range(mut self, range: KeyRange) -> Self {
        self.writes.push(Write::DeleteRange(range));
        self
    }

    /// Whether a store can take it as one transaction.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let too_large = |what: String| Err(StoreError::TooLarge { operation: "change keys", what });
        let ops = self.guards.len().max(self.writes.len());
        if ops > OPS_MAX {
            return too_large(format!("{ops} guards or writes in one change, at most {OPS_MAX} are allowed"));
        }
        let bytes: usize = self
            .writes
            .iter()
            .map(|write| match write {
                Write::Put(_, value) | Write::PutLeased(_, value, _) => value.len(),
                Write::Delete(_) | Write::DeleteRange(_) => 0,
            })
            .sum();
        if bytes > BYTES_MAX {
            return too_large(format!("{bytes} bytes in one change, at most {BYTES_MAX} are allowed"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Vni;

    fn vni(number: u32) -> Key {
        Key::Vni(Vni::new(number).unwrap())
    }

    #[test]
    fn a_change_of_too_many_operations_or_bytes_is_refused_before_it_is_sent() {
        let many = (1..=121).fold(Commit::new(), |commit, number| commit.put(vni(number), ""));
        let error = many.check().unwrap_err().to_string();
        assert!(error.contains("121 guards or writes") && error.contains("at most 120"), "{error}");
        let large = Commit::new().put(vni(1), vec![0; BYTES_MAX + 1]);
        assert!(large.check().unwrap_err().to_string().contains("1048577 bytes"));
        let fits = (1..=120).fold(Commit::new(), |commit, number| commit.absent(vni(number)));
        fits.check().unwrap();
    }

    #[test]
    fn a_refusal_says_what_was_found() {
        let found = Entry { key: vni(1).to_string(), value: "x".into(), mod_revision: 7, lease: 0 };
        let error = CommitError::Refused(vec![
            GuardRefusal { guard: Guard::Absent(vni(1)), found: Some(found.clone()) },
            GuardRefusal { guard: Guard::Unchanged(vni(1), 3), found: Some(found) },
            GuardRefusal { guard: Guard::Present(vni(2)), found: None },
        ]);
        assert_eq!(
            error.to_string(),
            "the store was changed at the same time: /ovnet/v1/vnis/1 exists already, \
             /ovnet/v1/vnis/1 was changed at revision 7, /ovnet/v1/vnis/2 does not exist"
        );
    }
}
