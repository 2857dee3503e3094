//! What strangers send, and what somebody sends who can write another's address on his datagrams.

use foca::{Header, Member, Message};

use super::*;
use crate::gossip::{
    codec::Codec,
    identity::Identity,
    letter::Letter,
    wire::{Note, Packet},
};

/// Generations that somebody may make up, and those around them.
const FORGED: [u64; 6] =
    [1_000_001, 1 << 41, (1 << 63) + 999_999, (1 << 63) + 1_000_000, u64::MAX - 1, u64::MAX];

fn identity(node: NodeId, at: SocketAddr, generation: u64) -> Identity {
    Identity::own(&GossipConfig {
        node,
        name: "forged".parse().unwrap(),
        advertise: at,
        vtep: at.ip(),
        version: "1".into(),
        generation,
        seed: 0,
    })
}

fn datagram(
    src: Identity,
    dst: Identity,
    message: Message<Identity>,
    news: Option<Vec<Member<Identity>>>,
) -> Bytes {
    let mut codec = Codec { own: src.address };
    let letter = Letter { header: Header { src, src_incarnation: 0, dst, message }, news };
    Packet::Swim(&letter.to_bytes(&mut codec).unwrap()).to_bytes()
}

fn made_up(n: u32) -> Member<Identity> {
    let at = SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 7946));
    Member::alive(identity(NodeId(uuid::Uuid::from_u128(u128::from(n) + 10_000)), at, 5))
}

/// What a host sends when it gets this.
fn sends(sim: &mut Sim, n: u8, from: SocketAddr, datagram: &[u8]) -> Vec<(SocketAddr, Bytes)> {
    let now = sim.now;
    let core = &mut sim.host(n).core;
    core.tick(now);
    drop(core.take_out());
    core.datagram(datagram, from, now);
    core.take_out()
}

fn own(sim: &Sim, n: u8) -> Identity {
    sim.hosts[&address(n)].core.swim.identity().clone()
}

fn table(sim: &Sim, n: u8) -> usize {
    sim.hosts[&address(n)].core.swim.iter_membership_state().len()
}

#[test]
fn strangers_are_not_let_in_and_get_no_answer() {
    let mut sim = Sim::joined(3);
    let (stranger, me) = (address(99), own(&sim, 1));
    let claims = [
        identity(node(99), stranger, 5),
        // A node of the store elsewhere than its record says, and there, but not sent from there.
        identity(node(2), stranger, u64::MAX),
        identity(node(2), address(2), u64::MAX),
        // Another one at the address of one that the store has.
        identity(node(99), address(2), u64::MAX),
        identity(node(3), address(2), u64::MAX),
    ];
    for n in 0..600_u32 {
        let claim = &claims[n as usize % claims.len()];
        let news = Some((n * 5..n * 5 + 5).map(made_up).collect());
        let forged = match n % 3 {
            0 => datagram(claim.clone(), Identity::unknown(me.address), Message::Announce, None),
            1 => datagram(claim.clone(), me.clone(), Message::Ping(1), news),
            _ => datagram(claim.clone(), me.clone(), Message::Gossip, news),
        };
        assert_eq!(sends(&mut sim, 1, stranger, &forged), []);
    }
    assert_eq!((table(&sim, 1), sim.hosts[&address(1)].counters.refused()), (2, 600));
    sim.run(20);
    assert!(sim.all(3, State::Alive), "{}", sim.states());
}

#[test]
fn nobody_makes_up_members_or_has_us_send_something_to_them() {
    let mut sim = Sim::joined(3);
    let (me, other) = (own(&sim, 1), own(&sim, 2));
    for n in 0..200 {
        let news = Some((n * 5..n * 5 + 5).map(made_up).collect());
        let forged = datagram(other.clone(), me.clone(), Message::Gossip, news);
        assert_eq!(sends(&mut sim, 1, address(2), &forged), []);
    }
    let target = made_up(7).id().clone();
    let strange = target.address;
    for message in [
        Message::PingReq { target: target.clone(), probe_number: 1 },
        Message::IndirectAck { target, probe_number: 1 },
    ] {
        let forged = datagram(other.clone(), me.clone(), message, None);
        assert!(sends(&mut sim, 1, address(2), &forged).iter().all(|(to, _)| *to != strange));
    }
    assert_eq!(table(&sim, 1), 2);
    sim.run(20);
    assert!(sim.all(3, State::Alive), "{}", sim.states());
}

#[test]
fn a_generation_that_somebody_makes_up_is_not_the_last_word() {
    for generation in FORGED {
        let mut sim = Sim::joined(3);
        sim.run(2);
        let forged = identity(node(2), address(2), generation);
        let unknown = Identity::unknown(address(1));
        let now = sim.now;
        let announced = datagram(forged.clone(), unknown, Message::Announce, None);
        sim.host(1).core.datagram(&announced, address(2), now);
        let news = Some(vec![Member::down(forged.clone()), Member::down(forged.departing())]);
        let told = datagram(own(&sim, 1), own(&sim, 3), Message::Gossip, news);
        sim.host(3).core.datagram(&told, address(1), now);
        sim.run(3);
        sim.until("back", 10, |sim| sim.all(3, State::Alive));
        sim.run(20);
        assert!(sim.all(3, State::Alive), "{generation}: {}", sim.states());
        sim.start(2, node(2), 2_000_000);
        sim.run(5);
        assert!(sim.all(3, State::Alive), "{generation}, a restart: {}", sim.states());
    }
}

#[test]
fn only_who_hears_us_is_told_of_all_others() {
    let mut sim = Sim::joined(10);
    let (me, other) = (own(&sim, 1), own(&sim, 2));
    let blind = datagram(other.clone(), Identity::unknown(me.address), Message::Announce, None);
    let answer = sends(&mut sim, 1, address(2), &blind).remove(0);
    assert!(
        answer.0 == address(2) && answer.1.len() <= blind.len() + 40,
        "{} for {}",
        answer.1.len(),
        blind.len()
    );
    let hearing = datagram(other, me, Message::Announce, None);
    let answer = sends(&mut sim, 1, address(2), &hearing).remove(0);
    assert!(answer.1.len() > 3 * blind.len(), "{}", answer.1.len());
}

#[test]
fn questions_of_strangers_are_not_answered() {
    let network = NetworkId::from_bytes([1; 32]);
    let mut sim = Sim::joined(2);
    let now = sim.now;
    sim.host(1).core.news(Inbox { networks: [(network, Some(6))].into(), ..Inbox::default() }, now);
    let ask = |asker| Packet::Ask(Note { network, revision: 6, node: node(asker), token: 1 }).to_bytes();
    assert_eq!(sends(&mut sim, 1, address(99), &ask(2)), []);
    assert_eq!(sends(&mut sim, 1, address(99), &ask(99)), []);
    assert_eq!(sends(&mut sim, 1, address(2), &ask(2)).len(), 1);
}

/// A host that does not hear the store, in a cluster of three that has it.
fn in_an_outage() -> Sim {
    let mut sim = Sim::joined(3);
    let records = sim.records.clone();
    sim.hosts.remove(&address(3));
    sim.start(3, node(3), 2_000_000);
    sim.host(3).core.roster = Roster::default();
    assert_eq!(sim.records, records);
    sim
}

#[test]
fn who_starts_while_the_store_is_away_is_not_taken_for_dead() {
    let mut sim = in_an_outage();
    sim.until("answered", 15, |sim| sim.everywhere(3, State::Alive));
    let end = sim.now + Duration::from_secs(60);
    sim.until("a minute", 61, |sim| {
        assert!(sim.state(3, 1).is_some_and(State::is_active), "{}", sim.states());
        sim.now >= end
    });
}

#[test]
fn strangers_who_take_part_while_the_store_is_away_are_few_and_go_with_its_first_word() {
    let mut sim = in_an_outage();
    let me = own(&sim, 3);
    for n in 0..600 {
        let src = made_up(n).id().clone();
        let (from, news) = (src.address, Some((n..n + 5).map(|n| made_up(n + 1000)).collect()));
        let forged = match n % 2 {
            0 => datagram(src, Identity::unknown(me.address), Message::Announce, None),
            _ => datagram(src, me.clone(), Message::Gossip, news),
        };
        for (to, answer) in sends(&mut sim, 3, from, &forged) {
            assert!(to == from && answer.len() <= forged.len() + 40, "{to}: {}", answer.len());
        }
    }
    assert!(table(&sim, 3) <= 64, "{}", table(&sim, 3));
    let (records, now) = (sim.records.clone(), sim.now);
    sim.host(3).core.know(records.into(), now);
    sim.until("all join", 10, |sim| sim.all(3, State::Alive));
    assert_eq!(table(&sim, 3), 2);
}

#[test]
fn a_question_is_not_answered_while_the_store_is_away() {
    let network = NetworkId::from_bytes([1; 32]);
    let mut sim = in_an_outage();
    let ask = Packet::Ask(Note { network, revision: 6, node: node(2), token: 1 }).to_bytes();
    let now = sim.now;
    sim.host(3).core.news(Inbox { networks: [(network, Some(6))].into(), ..Inbox::default() }, now);
    assert_eq!(sends(&mut sim, 3, address(2), &ask), []);
}
