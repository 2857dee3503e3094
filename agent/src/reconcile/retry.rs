//! When to try again what failed: with growing pauses, per unit.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::plan::ownership::Unit;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// How far off "never" is.
const NEVER: Duration = Duration::from_secs(86_400);

/// Units that wait for another try.
#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<Unit, (Instant, Duration)>);

impl Retries {
    /// A look failed; how long until the next.
    pub(super) fn failed(&mut self, unit: Unit, now: Instant) -> Duration {
        let pause = self.0.get(&unit).map_or(FIRST, |(_, pause)| (*pause * 2).min(LONGEST));
        self.0.insert(unit, (now + pause, pause));
        pause
    }

    /// A look succeeded.
    pub(super) fn clear(&mut self, unit: Unit) {
        self.0.remove(&unit);
    }

    /// Whether the last look at a unit failed.
    pub(super) fn waits(&self, unit: Unit) -> bool {
        self.0.contains_key(&unit)
    }

    /// When the next try is due; far off if none is.
    pub(super) fn next(&self) -> Instant {
        self.0.values().map(|(at, _)| *at).min().unwrap_or_else(|| Instant::now() + NEVER)
    }

    /// The units whose time has come. They stay known, so that the next failure waits longer.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Unit> {
        let due = self.0.iter_mut().filter(|(_, (at, _))| *at <= now);
        due.map(|(unit, (at, pause))| {
            *at = now + (*pause * 2).min(LONGEST) + NEVER;
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
        assert_eq!(retries.failed(Unit::Host, now), FIRST);
        assert_eq!(retries.next(), now + FIRST);
        assert!(retries.due(now).is_empty());
        assert_eq!(retries.due(now + FIRST), [Unit::Host]);
        assert!(retries.due(now + FIRST).is_empty(), "taken once");
        assert_eq!(retries.failed(Unit::Host, now), FIRST * 2);
        for _ in 0..20 {
            assert!(retries.failed(Unit::Host, now) <= LONGEST);
        }
        retries.clear(Unit::Host);
        assert_eq!(retries.failed(Unit::Host, now), FIRST);
    }
}
