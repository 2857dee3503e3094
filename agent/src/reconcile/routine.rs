//! Routine looks, which only the timer asks for: one unit after the other, spread over the period, each when
//! nothing else needs to be done. They may take only a small share of the time; if that is not enough for the
//! period, the round takes longer.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::dirty::in_order;
use crate::plan::ownership::Unit;

/// Longest time between two such looks: a host with few units is looked at soon after the timer.
const LONGEST: Duration = Duration::from_millis(250);
/// Looks may take at most one part in this many of the time.
const SHARE: u32 = 250;
/// Longest pause after one look, however long it took.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Most networks in one look: some of the kernel's answers cost the same for one network and for many.
const TOGETHER: usize = 32;
/// How often a unit that changes during its look is postponed.
const PUT_OFF: u8 = 2;

/// Units that wait for their turn.
#[derive(Debug)]
pub(super) struct Routine {
    waiting: VecDeque<(Unit, u8)>,
    pace: Duration,
    at: Instant,
}

impl Default for Routine {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), pace: LONGEST, at: Instant::now() }
    }
}

impl Routine {
    /// Schedule these for a look within `period`. Units that still wait go first.
    pub(super) fn add(&mut self, units: impl IntoIterator<Item = Unit>, now: Instant, period: Duration) {
        let known: BTreeSet<Unit> = self.waiting.iter().map(|(unit, _)| *unit).collect();
        let mut units: Vec<Unit> = units.into_iter().filter(|unit| !known.contains(unit)).collect();
        units.sort_by_key(in_order);
        self.waiting.extend(units.into_iter().map(|unit| (unit, 0)));
        let many = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        self.pace = period.checked_div(many).unwrap_or(LONGEST).min(LONGEST);
        self.at = now;
    }

    /// When the next unit is due, if one waits.
    pub(super) fn next(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.at)
    }

    /// The units that are due, with how often each was postponed: one unit, or several networks if many wait.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(Unit, u8)> {
        if self.at > now {
            return Vec::new();
        }
        let most = (self.waiting.len() / TOGETHER).clamp(1, TOGETHER);
        let networks = self.waiting.iter().take_while(|(unit, _)| matches!(unit, Unit::Network(_)));
        let many = networks.take(most).count().max(1).min(self.waiting.len());
        // Late turns are not caught up with.
        self.at = now + self.pace * u32::try_from(many).unwrap_or(u32::MAX);
        self.waiting.drain(..many).collect()
    }

    /// Record how long the last look took.
    pub(super) fn took(&mut self, took: Duration, now: Instant) {
        self.at = self.at.max(now + (took * SHARE).min(LONGEST_PAUSE));
    }

    /// Postpone a unit that changed during its look. False if that happened too often: then the loop itself
    /// must look at it.
    pub(super) fn put_off(&mut self, unit: Unit, times: u8) -> bool {
        let again = times < PUT_OFF;
        if again {
            self.waiting.push_back((unit, times + 1));
        }
        again
    }

    /// The unit was looked at in full for a different reason.
    pub(super) fn looked_at(&mut self, unit: Unit) {
        self.waiting.retain(|(waits, _)| *waits != unit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NetworkId, SandboxId};

    fn network(number: u8) -> Unit {
        Unit::Network(NetworkId::from_bytes([number; 32]))
    }

    #[tokio::test(start_paused = true)]
    async fn units_have_their_turns_one_by_one_within_the_period() {
        let (mut routine, start) = (Routine::default(), Instant::now());
        assert_eq!(routine.next(), None);
        let period = Duration::from_secs(10);
        routine.add((0..100).map(network).chain([Unit::Host]), start, period);
        let (mut now, mut observed) = (start, Vec::new());
        while let Some(at) = routine.next() {
            now = at.max(now);
            observed.extend(routine.take(now).into_iter().map(|(unit, _)| unit));
            assert_eq!(routine.take(now), [], "two at once");
        }
        assert_eq!((observed.len(), observed[0]), (101, Unit::Host));
        assert!(now - start <= period && now - start > period / 2, "{:?}", now - start);
        // Of few, none waits long.
        routine.add([network(1), network(2)], now, period);
        let last = now;
        while let Some(at) = routine.next() {
            now = at.max(now);
            routine.take(now);
        }
        assert!(now - last <= LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn where_very_many_wait_several_networks_are_looked_at_together() {
        let (mut routine, mut now) = (Routine::default(), Instant::now());
        let networks = (0..255).map(network).chain([Unit::Host]);
        let sandboxes = (0..9).map(|number| Unit::Sandbox(SandboxId::from_bytes([number; 32])));
        routine.add(networks.chain(sandboxes), now, Duration::from_secs(10));
        let mut turns = Vec::new();
        while let Some(at) = routine.next() {
            now = at.max(now);
            turns.push(routine.take(now));
        }
        assert_eq!(turns.iter().map(Vec::len).sum::<usize>(), 265);
        assert!(turns[10].len() > 4 && turns.len() < 150, "{}", turns.len());
        let alone = |turn: &Vec<(Unit, u8)>| turn.iter().all(|(unit, _)| matches!(unit, Unit::Network(_)));
        assert!(turns.iter().all(|turn| turn.len() == 1 || alone(turn)));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_take_a_small_share_of_the_time() {
        let (mut routine, start) = (Routine::default(), Instant::now());
        let took = Duration::from_millis(2);
        routine.add((0..100).map(network), start, Duration::from_secs(10));
        let (mut now, mut looks) = (start, 0);
        while let Some(at) = routine.next() {
            now = at.max(now);
            looks += routine.take(now).len();
            now += took;
            routine.took(took, now);
        }
        assert_eq!(looks, 100);
        let all = took * u32::try_from(looks).unwrap();
        assert!(all * 100 < now - start, "{all:?} of {:?}", now - start);
        // One slow look does not end them.
        routine.add([network(1)], now, LONGEST);
        routine.took(Duration::from_secs(5), now);
        assert!(routine.next().unwrap() <= now + LONGEST_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_looked_at_meanwhile_is_not_looked_at_again_and_what_waits_goes_first() {
        let (mut routine, now) = (Routine::default(), Instant::now());
        routine.add([network(1), network(2), network(3)], now, LONGEST);
        routine.looked_at(network(2));
        routine.add([Unit::Host, network(1), network(2)], now, LONGEST);
        let mut observed = Vec::new();
        let mut later = now;
        while routine.next().is_some() {
            later += LONGEST;
            observed.extend(routine.take(later).into_iter().map(|(unit, _)| unit));
        }
        assert_eq!(observed, [network(1), network(3), Unit::Host, network(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_that_changes_all_the_time_is_not_put_off_for_ever() {
        let (mut routine, mut now) = (Routine::default(), Instant::now());
        routine.add([network(1)], now, LONGEST);
        let mut looks = 0;
        while let [(unit, times)] = routine.take(now)[..] {
            looks += 1;
            if !routine.put_off(unit, times) {
                break;
            }
            now += LONGEST;
        }
        assert_eq!(looks, usize::from(PUT_OFF) + 1);
    }
}
