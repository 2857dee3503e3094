//! Whole clusters in virtual time, over a network that delivers, delays and loses as it is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    Counters, GossipConfig, Nodes, State,
    core::Core,
    handle::{Confirm, Inbox},
    roster::Roster,
};
use crate::model::{NetworkId, NodeId};

mod attacks;

const LATENCY: Duration = Duration::from_millis(1);
/// As a socket's buffer.
const BUFFER: usize = 200;

struct Host {
    core: Core,
    counters: Arc<Counters>,
    node: NodeId,
    frozen: bool,
    waiting: VecDeque<(SocketAddr, Bytes)>,
}

struct Sim {
    now: Instant,
    hosts: BTreeMap<SocketAddr, Host>,
    flying: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Bytes)>,
    sent: u64,
    /// Pairs that do not reach each other.
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Of how many datagrams one is lost; 0: none.
    loss: u64,
    /// What the store has.
    records: Nodes,
}

fn address(n: u8) -> SocketAddr {
    ([192, 0, 2, n], 7946).into()
}

fn node(n: u8) -> NodeId {
    NodeId(uuid::Uuid::from_u128(u128::from(n)))
}

/// A number that looks random (Knuth's multiplicative hash).
const fn mixed(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

impl Sim {
    /// So many hosts, of which all know the first.
    fn new(hosts: u8) -> Self {
        let (flying, cut) = (BTreeMap::new(), BTreeSet::new());
        let mut sim = Self {
            now: Instant::now(),
            hosts: BTreeMap::new(),
            flying,
            sent: 0,
            cut,
            loss: 0,
            records: Nodes::new(),
        };
        for n in 1..=hosts {
            sim.start(n, node(n), 1_000_000);
        }
        sim
    }

    /// A cluster in which everybody knows everybody.
    fn joined(hosts: u8) -> Self {
        let mut sim = Self::new(hosts);
        sim.until("all join", 5, |sim| sim.all(hosts, State::Alive));
        sim
    }

    fn start(&mut self, n: u8, node: NodeId, generation: u64) {
        let config = GossipConfig {
            node,
            name: format!("node{n}").parse().unwrap(),
            advertise: address(n),
            vtep: address(n).ip(),
            version: "1".into(),
            generation,
            seed: u64::from(n),
        };
        let counters = Arc::<Counters>::default();
        let mut core = Core::new(config, Arc::clone(&counters), self.now);
        core.news(Inbox { seeds: [address(1)].into(), ..Inbox::default() }, self.now);
        let host = Host { core, counters, node, frozen: false, waiting: VecDeque::new() };
        self.hosts.insert(address(n), host);
        self.register(node, address(n));
    }

    /// Gives the store a record, and tells everybody.
    fn register(&mut self, node: NodeId, address: SocketAddr) {
        self.records.insert(node, address);
        for host in self.hosts.values_mut() {
            host.core.know(self.records.clone().into(), self.now);
        }
    }

    fn host(&mut self, n: u8) -> &mut Host {
        self.hosts.get_mut(&address(n)).unwrap()
    }

    fn cut(&mut self, a: u8, b: u8) {
        self.cut.extend([(address(a), address(b)), (address(b), address(a))]);
    }

    /// Lets everybody do what is due now, and takes their datagrams.
    fn settle(&mut self) {
        for (from, host) in self.hosts.iter_mut().filter(|(_, host)| !host.frozen) {
            while let Some((sender, datagram)) = host.waiting.pop_front() {
                host.core.datagram(&datagram, sender, self.now);
            }
            host.core.tick(self.now);
            for (to, datagram) in host.core.take_out() {
                self.sent += 1;
                let lost = self.loss != 0 && mixed(self.sent).is_multiple_of(self.loss);
                if !lost && !self.cut.contains(&(*from, to)) {
                    self.flying.insert((self.now + LATENCY, self.sent), (*from, to, datagram));
                }
            }
        }
    }

    fn step(&mut self) {
        self.settle();
        let awake = self.hosts.values().filter(|host| !host.frozen);
        let wakes = awake.map(|host| host.core.next(self.now));
        let arrivals = self.flying.keys().next().map(|(at, _)| *at);
        self.now = wakes.chain(arrivals).min().unwrap().max(self.now + Duration::from_micros(100));
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, datagram) = entry.remove();
            if let Some(host) = self.hosts.get_mut(&to).filter(|host| host.waiting.len() < BUFFER) {
                host.waiting.push_back((from, datagram));
            }
        }
    }

    /// Runs until `done`, which must come within so many seconds; how long it took.
    fn until(&mut self, what: &str, seconds: u64, done: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            self.step();
            let passed = self.now - start;
            assert!(
                passed <= Duration::from_secs(seconds),
                "not within {seconds} s: {what}; {}",
                self.states()
            );
        }
        self.now - start
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        self.until("time passes", seconds + 60, |sim| sim.now >= end);
    }

    fn state(&self, of: u8, at: u8) -> Option<State> {
        let members = self.hosts[&address(at)].core.members();
        members.get(&node(of)).map(|member| member.state)
    }

    /// Whether every host that runs has `of` in this state.
    fn everywhere(&self, of: u8, state: State) -> bool {
        let awake = self.hosts.iter().filter(|(_, host)| !host.frozen && host.node != node(of));
        awake.map(|(_, host)| host.core.members().get(&node(of))).all(|m| m.is_some_and(|m| m.state == state))
    }

    /// Whether everybody has the first `hosts` nodes in this state.
    fn all(&self, hosts: u8, state: State) -> bool {
        self.hosts.values().all(|host| {
            let members = host.core.members();
            members.len() == usize::from(hosts) && members.values().all(|member| member.state == state)
        })
    }

    /// What is not as usual, host by host.
    fn states(&self) -> String {
        let line = |(at, host): (&SocketAddr, &Host)| {
            let members = host.core.members();
            let odd = members.values().filter(|m| m.state != State::Alive);
            let odd: Vec<_> = odd.map(|m| format!("{} {}", m.name, m.state)).collect();
            format!("{}: {} members, {odd:?}", at.ip(), members.len())
        };
        self.hosts.iter().map(line).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn a_hundred_nodes_join_by_one_seed() {
    let mut sim = Sim::new(100);
    let took = sim.until("all join", 30, |sim| sim.all(100, State::Alive));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn an_idle_cluster_is_quiet() {
    let mut sim = Sim::joined(10);
    sim.run(10);
    let before = sim.sent;
    sim.run(30);
    let each = (sim.sent - before) / (10 * 30);
    assert!(each <= 4, "{each} datagrams from each host in each second");
}

#[test]
fn a_crash_is_suspected_and_then_known_to_all_within_ten_seconds() {
    for hosts in [2, 3, 10, 50] {
        let mut sim = Sim::joined(hosts);
        sim.run(5);
        sim.hosts.remove(&address(2));
        sim.until("suspicion", 5, |sim| sim.state(2, 1) == Some(State::Suspect));
        let took = sim.until("failure", 10, |sim| sim.everywhere(2, State::Down));
        assert!(took <= Duration::from_secs(10), "{hosts} hosts: {took:?}");
    }
}

#[test]
fn a_node_that_leaves_is_not_taken_for_a_failure() {
    let mut sim = Sim::joined(10);
    let now = sim.now;
    sim.host(4).core.leave(now);
    sim.settle();
    sim.hosts.remove(&address(4));
    let took = sim.until("leave", 5, |sim| sim.everywhere(4, State::Left));
    assert!(took < Duration::from_secs(2), "{took:?}");
    sim.start(4, node(4), 2_000_000);
    sim.until("return", 5, |sim| sim.everywhere(4, State::Alive));
}

#[test]
fn a_restarted_node_takes_its_place_again_whatever_its_clock_says() {
    for generation in [1_000_001, 2_000_000, 1] {
        let mut sim = Sim::joined(3);
        sim.start(3, node(3), generation);
        sim.until("return", 10, |sim| sim.all(3, State::Alive));
        sim.run(20);
        assert!(sim.all(3, State::Alive), "{generation}: {}", sim.states());
    }
}

#[test]
fn a_frozen_node_is_given_up_and_comes_back() {
    let mut sim = Sim::joined(5);
    sim.host(3).frozen = true;
    sim.until("given up", 15, |sim| sim.everywhere(3, State::Down));
    sim.run(60);
    sim.host(3).frozen = false;
    let took = sim.until("back", 10, |sim| sim.all(5, State::Alive));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_network_that_loses_every_tenth_datagram_makes_nobody_fail() {
    let mut sim = Sim::new(10);
    sim.loss = 10;
    sim.until("all join", 30, |sim| sim.all(10, State::Alive));
    let end = sim.now + Duration::from_secs(300);
    let failed =
        |sim: &Sim| sim.hosts.values().any(|h| h.core.members().values().any(|m| !m.state.is_active()));
    sim.until("five minutes", 301, |sim| {
        assert!(!failed(sim), "{}", sim.states());
        sim.now >= end
    });
}

#[test]
fn two_halves_find_each_other_after_a_partition() {
    for hosts in [2, 6] {
        let mut sim = Sim::joined(hosts);
        for a in 1..=hosts / 2 {
            for b in hosts / 2 + 1..=hosts {
                sim.cut(a, b);
            }
        }
        sim.until("apart", 30, |sim| {
            sim.state(hosts, 1) == Some(State::Down) && sim.state(1, hosts) == Some(State::Down)
        });
        sim.run(120);
        sim.cut.clear();
        let took = sim.until("together", 40, |sim| sim.all(hosts, State::Alive));
        assert!(took < Duration::from_secs(30), "{hosts} hosts: {took:?}");
    }
}

#[test]
fn a_node_that_moved_is_one_node() {
    let mut sim = Sim::joined(3);
    sim.hosts.remove(&address(3));
    sim.start(9, node(3), 2_000_000);
    sim.until("moved", 5, |sim| sim.state(3, 1) == Some(State::Alive) && sim.all(3, State::Alive));
    sim.run(20);
    assert!(sim.all(3, State::Alive), "{}", sim.states());
    assert_eq!(sim.hosts[&address(1)].core.members()[&node(3)].address, address(9));
}

#[test]
fn a_new_node_at_an_old_address_takes_its_place() {
    let mut sim = Sim::joined(3);
    sim.start(3, node(7), 2_000_000);
    sim.until("replaced", 5, |sim| sim.state(7, 1) == Some(State::Alive) && sim.state(3, 1).is_none());
}

#[test]
fn a_quarrel_about_an_address_does_not_become_a_storm() {
    // The host of node 3 speaks for node 2's address, as after a mistake with --advertise.
    let mut sim = Sim::joined(2);
    let config = GossipConfig {
        node: node(3),
        name: "liar".parse().unwrap(),
        advertise: address(2),
        vtep: address(2).ip(),
        version: "1".into(),
        generation: 5,
        seed: 3,
    };
    let mut core = Core::new(config, Arc::default(), sim.now);
    core.news(Inbox { seeds: [address(1)].into(), ..Inbox::default() }, sim.now);
    let host =
        Host { core, counters: Arc::default(), node: node(3), frozen: false, waiting: VecDeque::new() };
    sim.hosts.insert(address(3), host);
    let before = sim.sent;
    sim.run(60);
    let each = (sim.sent - before) / 60;
    assert!(each < 100, "{each} datagrams in each second");
}

#[test]
fn an_ask_is_answered_when_the_revision_is_applied_and_the_silent_node_is_named() {
    let network = NetworkId::from_bytes([1; 32]);
    let mut sim = Sim::joined(3);
    let (reply, mut answer) = oneshot::channel();
    let nodes = [(node(2), address(2)), (node(3), address(3))].into();
    let deadline = sim.now + Duration::from_secs(1);
    let now = sim.now;
    sim.host(1).core.confirm(Confirm { network, revision: 7, nodes, deadline, reply }, now);
    sim.step();
    sim.host(2).core.news(Inbox { networks: [(network, Some(6))].into(), ..Inbox::default() }, now);
    sim.run(0);
    sim.host(2).core.news(Inbox { networks: [(network, Some(8))].into(), ..Inbox::default() }, now);
    let start = sim.now;
    loop {
        sim.step();
        match answer.try_recv() {
            Ok(missing) => {
                assert_eq!(missing, BTreeSet::from([node(3)]));
                break;
            }
            Err(_empty) => assert!(sim.now - start < Duration::from_secs(2)),
        }
    }
    assert!(sim.hosts[&address(3)].counters.asked() >= 10, "it was asked again and again");
    assert_eq!(sim.hosts[&address(2)].counters.answered(), 1);
}

#[test]
fn damaged_datagrams_are_counted_and_do_no_harm() {
    let mut sim = Sim::joined(3);
    let now = sim.now;
    let from = address(99);
    sim.host(1).core.datagram(b"hello", from, now);
    sim.host(1).core.datagram(&[0; 1401], from, now);
    sim.host(1).core.datagram(b"ov\x01\x00\xff\xff\xff\xff", from, now);
    sim.host(1).core.datagram(b"ov\x01\x01short", from, now);
    assert_eq!(sim.hosts[&address(1)].counters.malformed(), 4);
    sim.run(15);
    assert!(sim.all(3, State::Alive));
}

#[test]
fn datagrams_with_flipped_bits_do_no_harm() {
    // Every datagram of a joining cluster, damaged in every byte in turn.
    let mut sim = Sim::new(3);
    let mut seen = Vec::new();
    for _ in 0..200 {
        sim.step();
        seen.extend(sim.flying.values().map(|(from, _, datagram)| (*from, datagram.clone())));
    }
    seen.dedup();
    seen.truncate(60);
    let now = sim.now;
    for (from, datagram) in seen {
        for at in 0..datagram.len() {
            let mut damaged = datagram.to_vec();
            damaged[at] ^= 0x55;
            sim.host(1).core.datagram(&damaged, from, now);
            sim.host(1).core.tick(now);
            drop(sim.host(1).core.take_out());
        }
    }
}
