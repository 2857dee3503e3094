//! The kernel's hints, and when to look: hints come in bursts, for our own changes and those of other
//! programs.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::kernel::Hint;

/// How long after a hint about links or namespaces we wait for more.
const QUIET: Duration = Duration::from_millis(300);
/// How long after a look at rules the next one waits: our own writes cause hints too.
const SETTLE: Duration = Duration::from_millis(50);
/// Within [`WINDOW`], rules are repaired at once this many times.
const AT_ONCE: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);
/// The pause before the next repair, doubled each time up to the longest.
const SLOW: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(2);

/// What to look at, and when.
#[derive(Debug, Default)]
pub(super) struct Hints {
    presence: Option<Instant>,
    rules: Option<Instant>,
    /// The last look at rules.
    looked: Option<Instant>,
    /// The times of repairs within the window.
    mended: VecDeque<Instant>,
    /// The next look at the host comes from such a hint.
    answering: bool,
}

/// A look that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A presence check.
    Patrol,
    /// A look at the host's rules.
    Rules,
}

impl Hints {
    /// A hint has come.
    pub(super) fn note(&mut self, hint: Hint, now: Instant) {
        let (links, rules) = match hint {
            Hint::HostLinks | Hint::NamedNetns => (true, false),
            Hint::Ruleset => (false, true),
            Hint::Lost => (true, true),
        };
        if links {
            self.presence.get_or_insert(now + QUIET);
        }
        if rules && self.rules.is_none() {
            let pause = self.pause(now);
            self.rules = Some(self.looked.map_or(now, |looked| now.max(looked + pause)));
        }
    }

    /// How long after the last look at rules the next one comes.
    fn pause(&mut self, now: Instant) -> Duration {
        while self.mended.front().is_some_and(|at| *at + WINDOW <= now) {
            self.mended.pop_front();
        }
        let Some(more) = self.mended.len().checked_sub(AT_ONCE) else { return SETTLE };
        let doubled = u32::try_from(more).ok().and_then(|more| 2_u32.checked_pow(more));
        doubled.and_then(|times| SLOW.checked_mul(times)).unwrap_or(LONGEST).min(LONGEST)
    }

    /// When the next look is due, if one is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.presence.into_iter().chain(self.rules).min()
    }

    /// Take the looks that are due.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        if self.presence.take_if(|at| *at <= now).is_some() {
            due.push(Due::Patrol);
        }
        if self.rules.take_if(|at| *at <= now).is_some() {
            self.answering = true;
            self.looked = Some(now);
            due.push(Due::Rules);
        }
        due
    }

    /// Note a look at the host, and whether it found something to repair. Our own writes cause hints too, and
    /// the look that follows finds nothing. If it keeps finding something, another program is overwriting our
    /// rules.
    pub(super) fn host_looked_at(&mut self, mended: bool, now: Instant) {
        if std::mem::take(&mut self.answering) && mended {
            self.mended.push_back(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_hints_is_one_look_of_each_kind() {
        let (mut hints, now) = (Hints::default(), Instant::now());
        assert_eq!(hints.next(), None);
        for hint in [Hint::HostLinks, Hint::NamedNetns, Hint::Ruleset, Hint::Ruleset, Hint::Lost] {
            hints.note(hint, now);
        }
        assert_eq!(hints.next(), Some(now));
        assert_eq!(hints.due(now), [Due::Rules]);
        assert!(hints.due(now).is_empty(), "taken once");
        assert_eq!(hints.due(now + QUIET), [Due::Patrol]);
        assert_eq!(hints.next(), None);
    }

    /// A hint, and how long its look waits.
    fn answer(hints: &mut Hints, now: &mut Instant, mended: bool) -> Duration {
        hints.note(Hint::Ruleset, *now);
        let next = hints.next().unwrap();
        let waited = next - *now;
        *now = next;
        assert_eq!(hints.due(*now), [Due::Rules]);
        hints.host_looked_at(mended, *now);
        waited
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_is_mended_at_once_and_a_fight_over_the_rules_slows_down() {
        let (mut hints, mut now) = (Hints::default(), Instant::now());
        let mut pauses = Vec::new();
        for round in 0..40 {
            pauses.push(answer(&mut hints, &mut now, true));
            if round + 1 < AT_ONCE {
                // Our own writing. Whoever flushes once more does so some time later.
                assert!(answer(&mut hints, &mut now, false) <= SLOW);
                now += Duration::from_millis(500);
            }
        }
        assert_eq!(pauses[..AT_ONCE], [Duration::ZERO; AT_ONCE]);
        assert!(pauses[AT_ONCE..].iter().all(|pause| *pause >= SLOW && *pause <= LONGEST), "{pauses:?}");
        assert!(now - Instant::now() > 30 * Duration::from_secs(1), "a second and more on the average");
        // A look for another reason says nothing about it.
        let mended = hints.mended.len();
        hints.host_looked_at(true, now);
        assert_eq!(hints.mended.len(), mended);
        now += WINDOW;
        assert_eq!(answer(&mut hints, &mut now, true), Duration::ZERO, "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn hints_at_nothing_do_not_keep_a_flush_waiting() {
        let (mut hints, mut now) = (Hints::default(), Instant::now());
        let start = now;
        for _ in 0..100 {
            assert!(answer(&mut hints, &mut now, false) <= SETTLE);
        }
        assert!(now - start >= 99 * SETTLE);
        assert!(answer(&mut hints, &mut now, true) <= SETTLE);
    }
}
