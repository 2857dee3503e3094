//! What the kernel hinted at, and when to look: in bursts come our own changes, and others'.

use std::time::Duration;

use tokio::time::Instant;

use crate::kernel::Seen;

/// How long after a hint we wait for more.
const QUIET: Duration = Duration::from_millis(300);
/// Longest pause before rules that somebody keeps changing are mended again.
const LONGEST: Duration = Duration::from_secs(60);

/// What to look at, and when.
#[derive(Debug)]
pub(super) struct Hints {
    patrol: Option<Instant>,
    rules: Option<Instant>,
    /// How long a hint about rules waits.
    pause: Duration,
    /// The next look at the host comes from such a hint.
    answering: bool,
}

/// A look whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Is everything still there?
    Patrol,
    /// At the host's rules.
    Rules,
}

impl Default for Hints {
    fn default() -> Self {
        Self { patrol: None, rules: None, pause: QUIET, answering: false }
    }
}

impl Hints {
    /// A hint has come.
    pub(super) fn note(&mut self, hint: Seen, now: Instant) {
        let (links, rules) = match hint {
            Seen::HostLinks | Seen::NamedNetns => (true, false),
            Seen::Ruleset => (false, true),
            Seen::Lost => (true, true),
        };
        if links {
            self.patrol.get_or_insert(now + QUIET);
        }
        if rules {
            self.rules.get_or_insert(now + self.pause);
        }
    }

    /// When the next look is due; None: there is none.
    pub(super) fn next(&self) -> Option<Instant> {
        self.patrol.into_iter().chain(self.rules).min()
    }

    /// The looks whose time has come, once.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Due> {
        let mut due = Vec::new();
        if self.patrol.take_if(|at| *at <= now).is_some() {
            due.push(Due::Patrol);
        }
        if self.rules.take_if(|at| *at <= now).is_some() {
            self.answering = true;
            due.push(Due::Rules);
        }
        due
    }

    /// The host was looked at, and there was something to mend, or nothing. What we write is hinted at too: the look that
    /// follows finds nothing. If it does find something, again and again, somebody writes against us.
    pub(super) fn host_looked_at(&mut self, mended: bool) {
        if std::mem::take(&mut self.answering) {
            self.pause = if mended { (self.pause * 2).min(LONGEST) } else { QUIET };
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
        for hint in [Seen::HostLinks, Seen::NamedNetns, Seen::Ruleset, Seen::Ruleset, Seen::Lost] {
            hints.note(hint, now);
        }
        assert_eq!(hints.next(), Some(now + QUIET));
        assert!(hints.due(now).is_empty());
        assert_eq!(hints.due(now + QUIET), [Due::Patrol, Due::Rules]);
        assert!(hints.due(now + QUIET).is_empty(), "taken once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_is_mended_soon_and_a_fight_over_the_rules_slows_down() {
        let (mut hints, mut now) = (Hints::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            hints.note(Seen::Ruleset, now);
            let next = hints.next().unwrap();
            pauses.push(next - now);
            now = next;
            assert_eq!(hints.due(now), [Due::Rules]);
            hints.host_looked_at(true);
        }
        assert!(pauses[0] < Duration::from_secs(1) && pauses[1] < Duration::from_secs(1), "{pauses:?}");
        assert!(pauses.is_sorted() && pauses[11] == LONGEST, "{pauses:?}");
        // A look for another reason says nothing about it.
        hints.host_looked_at(false);
        hints.note(Seen::Ruleset, now);
        assert_eq!(hints.next(), Some(now + LONGEST));
        hints.due(now + LONGEST);
        hints.host_looked_at(false);
        hints.note(Seen::Ruleset, now);
        assert_eq!(hints.next(), Some(now + QUIET));
    }
}
