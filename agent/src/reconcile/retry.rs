//! Retries after failures: with growing pauses, per unit.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::plan::ownership::Unit;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// How far off "never" is.
const NEVER: Duration = Duration::from_secs(86_400);

/// Units that wait for a retry.
#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<Unit, Retry>);

#[derive(Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
    /// Why the last look failed.
    error: String,
}

impl Retries {
    /// Record a failed look. Returns the pause until the next one, and whether the reason is new.
    pub(super) fn failed(&mut self, unit: Unit, now: Instant, error: &str) -> (Duration, bool) {
        let last = self.0.get(&unit);
        let pause = last.map_or(FIRST, |last| (last.pause * 2).min(LONGEST));
        let is_news = last.is_none_or(|last| last.error != error);
        self.0.insert(unit, Retry { at: now + pause, pause, error: error.to_owned() });
        (pause, is_news)
    }

    /// Record a successful look. Returns whether the one before had failed.
    pub(super) fn clear(&mut self, unit: Unit) -> bool {
        self.0.remove(&unit).is_some()
    }

    /// Whether the last look at it failed.
    pub(super) fn waits(&self, unit: Unit) -> bool {
        self.0.contains_key(&unit)
    }

    /// When the next try is due; far off if none is.
    pub(super) fn next(&self) -> Instant {
        self.0.values().map(|retry| retry.at).min().unwrap_or_else(|| Instant::now() + NEVER)
    }

    /// The units that are due. They stay known, so that the next failure waits longer.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Unit> {
        let due = self.0.iter_mut().filter(|(_, retry)| retry.at <= now);
        due.map(|(unit, retry)| {
            retry.at = now + (retry.pause * 2).min(LONGEST) + NEVER;
            *unit
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_cap_and_success_forgets() {
        let mut retries = Retries::default();
        let now = Instant::now();
        assert!(!retries.waits(Unit::Host));
        assert_eq!(retries.failed(Unit::Host, now, "a"), (FIRST, true));
        assert!(retries.waits(Unit::Host));
        assert_eq!(retries.next(), now + FIRST);
        assert!(retries.due(now).is_empty());
        assert_eq!(retries.due(now + FIRST), [Unit::Host]);
        assert!(retries.due(now + FIRST).is_empty(), "taken once");
        assert_eq!(retries.failed(Unit::Host, now, "a"), (FIRST * 2, false));
        assert_eq!(retries.failed(Unit::Host, now, "b"), (FIRST * 4, true));
        for _ in 0..20 {
            assert!(retries.failed(Unit::Host, now, "b").0 <= LONGEST);
        }
        assert!(retries.clear(Unit::Host));
        assert!(!retries.clear(Unit::Host));
        assert_eq!(retries.failed(Unit::Host, now, "b"), (FIRST, true));
    }
}
