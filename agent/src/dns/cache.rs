//! Answers of upstreams that may be told again for a while. What is oldest goes first.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::wire::Told;
use crate::model::SandboxId;

/// Most answers.
const MOST: usize = 4096;
/// Most bytes of them, roughly.
const ROOM: usize = 2 << 20;
/// Longest that an answer is kept, whatever it says of itself.
const LONGEST: u32 = 3600;
/// Longest that a "no" is kept: the name may come into being the next moment.
const LONGEST_NO: u32 = 30;

/// Whose upstreams an answer is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// The host's, by how often they have changed.
    Host(u64),
    /// This sandbox's own.
    Sandbox(SandboxId),
}

/// What was asked, and of whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Of whom.
    pub(super) scope: Scope,
    /// The question in lower case, as it goes over the wire.
    pub(super) question: Box<[u8]>,
    /// Signatures are wanted.
    pub(super) signed: bool,
    /// Signatures are not checked by the upstream.
    pub(super) unchecked: bool,
}

#[derive(Debug)]
struct Entry {
    told: Told,
    since: Instant,
    number: u64,
}

/// The answers that are kept.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// The keys in the order in which they came.
    order: BTreeMap<u64, Key>,
    count: u64,
    bytes: usize,
}

impl Cache {
    /// What is known, and how many seconds old it is.
    pub(super) fn get(&self, key: &Key, now: Instant) -> Option<(&Told, u32)> {
        let entry = self.entries.get(key)?;
        let age = u32::try_from(now.saturating_duration_since(entry.since).as_secs()).unwrap_or(u32::MAX);
        (age < lifetime(&entry.told)).then_some((&entry.told, age))
    }

    /// Keep an answer, if it may be kept.
    pub(super) fn put(&mut self, key: Key, told: Told, now: Instant) {
        self.remove(&key);
        if lifetime(&told) == 0 || told.size() > ROOM / 16 {
            return;
        }
        self.bytes += weight(&key, &told);
        self.count += 1;
        self.order.insert(self.count, key.clone());
        self.entries.insert(key, Entry { told, since: now, number: self.count });
        while self.entries.len() > MOST || self.bytes > ROOM {
            let Some((_, oldest)) = self.order.first_key_value() else { return };
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    /// Forget what is too old, so that nothing is held for nobody.
    pub(super) fn tidy(&mut self, now: Instant) {
        let old = |entry: &Entry| {
            now.saturating_duration_since(entry.since) >= Duration::from_secs(lifetime(&entry.told).into())
        };
        let stale: Vec<Key> =
            self.entries.iter().filter(|(_, entry)| old(entry)).map(|(key, _)| key.clone()).collect();
        for key in &stale {
            self.remove(key);
        }
        if self.entries.is_empty() {
            *self = Self { count: self.count, ..Self::default() };
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.number);
            self.bytes = self.bytes.saturating_sub(weight(key, &entry.told));
        }
    }
}

fn lifetime(told: &Told) -> u32 {
    told.ttl.min(if told.is_no_name() { LONGEST_NO } else { LONGEST })
}

/// What an entry takes in all, roughly: the key is held twice.
fn weight(key: &Key, told: &Told) -> usize {
    told.size() + 2 * (key.question.len() + size_of::<Key>()) + size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::wire::{Heard, hear, tests::answer_to};

    fn key(number: u32) -> Key {
        Key { scope: Scope::Host(0), question: number.to_be_bytes().into(), signed: false, unchecked: false }
    }

    fn told(ttl: u32, records: u32) -> Told {
        let (query, answer) = answer_to("name.example.", ttl, records);
        let Some(Heard::Answer(told)) = hear(&answer, &query) else { panic!("an answer") };
        told
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_told_until_its_time_is_over() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.put(key(1), told(10, 1), start);
        cache.put(key(2), told(0, 1), start);
        assert_eq!(cache.get(&key(1), start + Duration::from_secs(9)).map(|(_, age)| age), Some(9));
        assert!(cache.get(&key(1), start + Duration::from_secs(10)).is_none());
        assert!(cache.get(&key(2), start).is_none(), "it was not to be kept");
        cache.tidy(start + Duration::from_secs(10));
        assert!(cache.entries.is_empty() && cache.order.is_empty() && cache.bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_answers_make_room_for_new_ones() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        let most = u32::try_from(MOST).unwrap();
        for number in 0..most + 10 {
            cache.put(key(number), told(10, 1), now);
        }
        assert!(cache.entries.len() <= MOST && cache.bytes <= ROOM);
        assert_eq!(cache.entries.len(), cache.order.len());
        assert!(cache.get(&key(0), now).is_none() && cache.get(&key(most + 9), now).is_some());
        for number in 0..200 {
            cache.put(key(number), told(10, 1000), now);
        }
        assert!(cache.bytes <= ROOM, "{} bytes", cache.bytes);
        let held: usize = cache.entries.iter().map(|(key, entry)| weight(key, &entry.told)).sum();
        assert_eq!(held, cache.bytes);
    }
}
