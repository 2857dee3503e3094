//! Datagrams of those who do not take part, said in one line and not in a thousand.

use std::{net::SocketAddr, time::Duration};

use tokio::time::Instant;

use super::roster::Roster;
use crate::model::NodeId;

/// How long is waited before it is said: the record of a node that is new may be on its way.
const COLLECT: Duration = Duration::from_secs(10);
/// Least time between two lines.
const QUIET: Duration = Duration::from_secs(3600);

/// Who a datagram says that it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) node: NodeId,
    pub(super) address: SocketAddr,
    /// Where it came from.
    pub(super) from: SocketAddr,
}

/// What was refused and has not been said.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    last: Option<Heard>,
    count: u64,
    /// When to say it.
    due: Option<Instant>,
    told: Option<Instant>,
}

impl Strangers {
    /// A datagram was refused.
    pub(super) fn note(&mut self, claim: Heard, now: Instant) {
        self.last = Some(claim);
        self.count = self.count.saturating_add(1);
        let quiet = self.told.map_or(now, |told| told + QUIET);
        self.due.get_or_insert(quiet.max(now + COLLECT));
    }

    /// When [`Strangers::due`] has something to say.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.due
    }

    /// The last one and how many there were, if it is time to say it: not of one that has become known since.
    pub(super) fn due(&mut self, roster: &Roster, now: Instant) -> Option<(Heard, u64)> {
        self.due.filter(|due| *due <= now)?;
        self.due = None;
        let count = std::mem::take(&mut self.count);
        let claim = self.last.take().filter(|claim| !roster.knows(claim.node, claim.from))?;
        self.told = Some(now);
        Some((claim, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(n: u16) -> Heard {
        let address = ([192, 0, 2, 9], n).into();
        Heard { node: NodeId(uuid::Uuid::from_u128(u128::from(n))), address, from: address }
    }

    #[test]
    fn many_are_one_line_and_the_next_comes_after_a_long_while() {
        let start = Instant::now();
        let mut strangers = Strangers::default();
        for n in 0..600 {
            strangers.note(claim(n), start);
            assert_eq!(strangers.due(&Roster::default(), start), None);
        }
        let now = start + COLLECT;
        assert_eq!(strangers.next(), Some(now));
        assert_eq!(strangers.due(&Roster::default(), now), Some((claim(599), 600)));
        strangers.note(claim(1), now);
        assert_eq!(strangers.next(), Some(now + QUIET));
        assert_eq!(strangers.due(&Roster::default(), now + QUIET), Some((claim(1), 1)));
    }

    #[test]
    fn one_whose_record_comes_is_not_spoken_of() {
        let start = Instant::now();
        let mut strangers = Strangers::default();
        strangers.note(claim(1), start);
        let roster = Roster::of(
            [(claim(1).node, claim(1).from)].into_iter().collect::<super::super::roster::Nodes>().into(),
        );
        assert_eq!(strangers.due(&roster, start + COLLECT), None);
        assert_eq!(strangers.next(), None);
    }
}
