//! The leases: when each runs out, and which keys go with it. In memory; their times to live are also in the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

/// Leases at the same time.
pub(super) const LEASES_MAX: usize = 10_000;
/// Longest lease, in seconds: a year is long enough, and no clock overflows.
pub(super) const TTL_MAX: i64 = 31_536_000;

/// A key that went from one lease to another; 0 is none.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) key: Vec<u8>,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// One lease.
#[derive(Debug)]
pub(super) struct Lease {
    /// In seconds.
    pub(super) ttl: i64,
    pub(super) deadline: Instant,
    pub(super) keys: BTreeSet<Vec<u8>>,
}

/// All of them. Pure: the caller has the clock.
#[derive(Debug, Default)]
pub(super) struct Leases {
    by_id: BTreeMap<i64, Lease>,
}

impl Leases {
    pub(super) fn insert(&mut self, id: i64, ttl: i64, now: Instant) {
        self.by_id.insert(id, Lease { ttl, deadline: now + seconds(ttl), keys: BTreeSet::new() });
    }

    pub(super) fn remove(&mut self, id: i64) {
        self.by_id.remove(&id);
    }

    pub(super) fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = i64> {
        self.by_id.keys().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Gives it its full time again; the seconds, or `None` if it has ended.
    pub(super) fn renew(&mut self, id: i64, now: Instant) -> Option<i64> {
        let lease = self.by_id.get_mut(&id).filter(|lease| lease.deadline > now)?;
        lease.deadline = now + seconds(lease.ttl);
        Some(lease.ttl)
    }

    pub(super) fn attach(&mut self, attachment: Attachment) {
        let Attachment { key, from, to } = attachment;
        if let Some(lease) = self.by_id.get_mut(&from) {
            lease.keys.remove(&key);
        }
        if let Some(lease) = self.by_id.get_mut(&to) {
            lease.keys.insert(key);
        }
    }

    /// The one that ends first.
    pub(super) fn next(&self) -> Option<(i64, Instant)> {
        self.by_id.iter().map(|(id, lease)| (*id, lease.deadline)).min_by_key(|(_, deadline)| *deadline)
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewed_lease_ends_later_and_an_ended_one_cannot_be_renewed() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.insert(1, 10, start);
        leases.insert(2, 20, start);
        assert_eq!(leases.next(), Some((1, start + seconds(10))));
        assert_eq!(leases.renew(1, start + seconds(9)), Some(10));
        assert_eq!(leases.next(), Some((1, start + seconds(19))));
        assert_eq!(leases.renew(1, start + seconds(19)), None);
        assert_eq!(leases.renew(3, start), None);
    }

    #[test]
    fn a_key_belongs_to_the_lease_it_was_put_with_last() {
        let (mut leases, start) = (Leases::default(), Instant::now());
        leases.insert(1, 10, start);
        leases.insert(2, 10, start);
        leases.attach(Attachment { key: b"k".to_vec(), from: 0, to: 1 });
        leases.attach(Attachment { key: b"k".to_vec(), from: 1, to: 2 });
        assert!(leases.get(1).unwrap().keys.is_empty());
        assert_eq!(leases.get(2).unwrap().keys.len(), 1);
        leases.attach(Attachment { key: b"k".to_vec(), from: 2, to: 0 });
        assert!(leases.get(2).unwrap().keys.is_empty());
    }
}
