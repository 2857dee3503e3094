//! What the membership protocol wants to be reminded of.

use std::collections::BTreeMap;

use foca::Timer;
use tokio::time::Instant;

use super::identity::Identity;

/// Reminders by their time.
#[derive(Default)]
pub(super) struct Timers {
    queue: BTreeMap<(Instant, u64), Timer<Identity>>,
    counter: u64,
}

impl Timers {
    pub(super) fn push(&mut self, at: Instant, timer: Timer<Identity>) {
        self.counter += 1;
        self.queue.insert((at, self.counter), timer);
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// The first one that is due. Due ones go out by their time: the protocol's steps of one probe must keep their order
    /// even when we are late.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer<Identity>> {
        let first = self.queue.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
