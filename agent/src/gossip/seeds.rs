//! Whom to announce ourselves to, and when: at once to an address that is new, then again with growing pauses as long as
//! it is not among the members.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use tokio::time::Instant;

/// Most seeds; the oldest are forgotten.
const MAX_SEEDS: usize = 4096;
/// Most announcements at a time.
const AT_ONCE: usize = 8;
/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause of a node without peers.
const LONGEST_ALONE: Duration = Duration::from_secs(5);
/// The longest pause of one who has company, and misses some.
const LONGEST: Duration = Duration::from_secs(30);

/// Addresses where members may be.
pub(super) struct Seeds {
    /// In the order in which they are tried.
    list: VecDeque<SocketAddr>,
    known: BTreeSet<SocketAddr>,
    next: Instant,
    pause: Duration,
}

impl Seeds {
    pub(super) const fn new(now: Instant) -> Self {
        Self { list: VecDeque::new(), known: BTreeSet::new(), next: now, pause: FIRST }
    }

    /// More addresses; those that are new are tried first and at once.
    pub(super) fn add(&mut self, addresses: impl IntoIterator<Item = SocketAddr>, now: Instant) {
        for address in addresses {
            if !self.known.insert(address) {
                continue;
            }
            self.list.push_front(address);
            self.hurry(now);
            if self.list.len() > MAX_SEEDS
                && let Some(oldest) = self.list.pop_back()
            {
                self.known.remove(&oldest);
            }
        }
    }

    /// Try again at once, and then with the first pause: something changed.
    pub(super) const fn hurry(&mut self, now: Instant) {
        self.next = now;
        self.pause = FIRST;
    }

    /// When to look again.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Those to announce to now: some seeds that are not `present`, and for one who is alone also those who went `down`.
    pub(super) fn due(
        &mut self,
        now: Instant,
        present: &BTreeSet<SocketAddr>,
        down: &[SocketAddr],
    ) -> Vec<SocketAddr> {
        if now < self.next {
            return Vec::new();
        }
        let alone = present.is_empty();
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(if alone { LONGEST_ALONE } else { LONGEST });
        let mut due = Vec::new();
        for _ in 0..self.list.len() {
            if due.len() >= AT_ONCE {
                break;
            }
            self.list.rotate_left(1);
            due.extend(self.list.back().filter(|address| !present.contains(address)));
        }
        if alone {
            let more = down.iter().filter(|address| !self.known.contains(address));
            due.extend(more.take(AT_ONCE));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn a_new_seed_is_tried_at_once_and_then_with_growing_pauses() {
        let start = Instant::now();
        let mut seeds = Seeds::new(start);
        seeds.add([address(1)], start);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            assert_eq!(seeds.due(now, &BTreeSet::new(), &[]), [address(1)]);
            assert!(seeds.due(now, &BTreeSet::new(), &[]).is_empty());
            pauses.push((seeds.next() - now).as_millis());
            now = seeds.next();
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 5000, 5000, 5000]);
        seeds.add([address(1)], now);
        assert!(seeds.next() > now - Duration::from_secs(1), "a known one changes nothing");
        seeds.add([address(2)], now);
        assert_eq!(seeds.next(), now);
    }

    #[test]
    fn members_are_not_announced_to_and_the_others_take_turns() {
        let start = Instant::now();
        let mut seeds = Seeds::new(start);
        seeds.add((1..=20).map(address), start);
        let present = BTreeSet::from([address(1), address(2)]);
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let due = seeds.due(seeds.next(), &present, &[address(99)]);
            assert!(due.len() <= AT_ONCE);
            seen.extend(due);
        }
        assert_eq!(seen, (3..=20).map(address).collect());
    }

    #[test]
    fn one_who_is_alone_tries_those_who_went_down() {
        let start = Instant::now();
        let mut seeds = Seeds::new(start);
        assert_eq!(seeds.due(start, &BTreeSet::new(), &[address(9)]), [address(9)]);
    }

    #[test]
    fn the_list_is_bounded() {
        let start = Instant::now();
        let mut seeds = Seeds::new(start);
        seeds.add((0..10_000_u32).map(|n| SocketAddr::from((n.to_be_bytes(), 1))), start);
        assert_eq!((seeds.list.len(), seeds.known.len()), (MAX_SEEDS, MAX_SEEDS));
    }
}
