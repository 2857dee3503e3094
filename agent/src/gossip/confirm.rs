//! Questions whether the others have applied a revision of a network, and our answers to theirs. Time is passed in.
//!
//! ```text
//! asker: open --ask--> every node, again every 50 ms --applied--> done when all have answered, or at the deadline
//! asked: ask -> answered at once if that revision is applied, else kept until it is
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    roster::same,
    wire::{Note, Packet},
};
use crate::model::{NetworkId, NodeId};

/// Pause before a question is asked again.
const REPEAT: Duration = Duration::from_millis(50);
/// Most questions of others that wait for an answer; the oldest are forgotten, and asked again if they matter.
const MAX_WAITING: usize = 1024;
/// A question that has not been repeated for so long does not matter any more.
const STALE: Duration = Duration::from_secs(2);
/// Most networks whose revision is remembered.
const MAX_NETWORKS: usize = 65_536;

/// A datagram that is to be sent.
pub(super) type Outgoing = (SocketAddr, Packet<'static>);

/// Our questions.
#[derive(Default)]
pub(super) struct Asks {
    open: BTreeMap<u64, Ask>,
}

/// A question to several nodes.
pub(super) struct Ask {
    /// The network.
    pub(super) network: NetworkId,
    /// The revision of the store that they should have applied.
    pub(super) revision: i64,
    /// Those who have not answered.
    pub(super) missing: BTreeMap<NodeId, SocketAddr>,
    /// When we stop to wait.
    pub(super) deadline: Instant,
    /// When we ask again.
    pub(super) next: Instant,
}

/// What follows from the passing of time.
#[derive(Default)]
pub(super) struct Turn {
    /// To be sent.
    pub(super) send: Vec<Outgoing>,
    /// Questions that are over by their tokens, with those who did not answer.
    pub(super) done: Vec<(u64, BTreeSet<NodeId>)>,
}

impl Asks {
    /// Asks, under a token that is not in use.
    pub(super) fn open(&mut self, token: u64, ask: Ask) {
        self.open.insert(token, ask);
    }

    /// Forgets a question whose answer nobody waits for.
    pub(super) fn close(&mut self, token: u64) {
        self.open.remove(&token);
    }

    /// Takes an answer; one that nobody asked for, or to something else, or from elsewhere, changes nothing.
    pub(super) fn applied(&mut self, note: &Note, from: SocketAddr) {
        if let Some(ask) = self.open.get_mut(&note.token)
            && ask.network == note.network
            && ask.revision <= note.revision
            && ask.missing.get(&note.node).is_some_and(|asked| same(*asked, from))
        {
            ask.missing.remove(&note.node);
        }
    }

    /// Questions to be asked (again) and those that are over.
    pub(super) fn turn(&mut self, now: Instant, node: NodeId) -> Turn {
        let mut turn = Turn::default();
        self.open.retain(|token, ask| {
            if ask.missing.is_empty() || ask.deadline <= now {
                turn.done.push((*token, ask.missing.keys().copied().collect()));
                return false;
            }
            if ask.next <= now {
                ask.next = now + REPEAT;
                let note = Note { network: ask.network, revision: ask.revision, node, token: *token };
                turn.send.extend(ask.missing.values().map(|address| (*address, Packet::Ask(note))));
            }
            true
        });
        turn
    }

    /// When [`Asks::turn`] has something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.open.values().map(|ask| ask.next.min(ask.deadline)).min()
    }
}

/// Questions of others, and what we have applied.
#[derive(Default)]
pub(super) struct Answers {
    applied: BTreeMap<NetworkId, i64>,
    /// The one that was asked or repeated longest ago first.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    note: Note,
    from: SocketAddr,
    last: Instant,
}

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reception {
    /// Answered.
    Answer(Packet<'static>),
    /// Kept for later.
    Kept,
    /// Kept for later, and another one is forgotten.
    KeptForAnother,
}

impl Answers {
    /// A question came in.
    pub(super) fn asked(&mut self, note: Note, from: SocketAddr, now: Instant, node: NodeId) -> Reception {
        if let Some(applied) = self.applied.get(&note.network).filter(|applied| note.revision <= **applied) {
            return Reception::Answer(Packet::Applied(Note { revision: *applied, node, ..note }));
        }
        self.waiting.retain(|waiting| !(waiting.from == from && waiting.note.token == note.token));
        while self.waiting.front().is_some_and(|first| first.last + STALE < now) {
            self.waiting.pop_front();
        }
        let full = self.waiting.len() >= MAX_WAITING;
        if full {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Waiting { note, from, last: now });
        if full { Reception::KeptForAnother } else { Reception::Kept }
    }

    /// We have applied a network up to `revision`: the answers that this makes true.
    pub(super) fn applied(&mut self, network: NetworkId, revision: i64, node: NodeId) -> Vec<Outgoing> {
        self.applied.insert(network, revision);
        if self.applied.len() > MAX_NETWORKS {
            self.applied.pop_first();
        }
        self.answer(network, node, |note| (note.revision <= revision).then_some(revision))
    }

    /// We have nothing of a network any more: nodes that wait for us need not wait.
    pub(super) fn forget(&mut self, network: NetworkId, node: NodeId) -> Vec<Outgoing> {
        self.applied.remove(&network);
        self.answer(network, node, |note| Some(note.revision))
    }

    /// Answers those of a network's questions for which `revision` has one.
    fn answer(
        &mut self,
        network: NetworkId,
        node: NodeId,
        revision: impl Fn(&Note) -> Option<i64>,
    ) -> Vec<Outgoing> {
        let mut send = Vec::new();
        self.waiting.retain(|Waiting { note, from, .. }| {
            let Some(revision) = revision(note).filter(|_| note.network == network) else { return true };
            send.push((*from, Packet::Applied(Note { revision, node, ..*note })));
            false
        });
        send
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(n: u8) -> NetworkId {
        NetworkId::from_bytes([n; 32])
    }

    fn node(n: u128) -> NodeId {
        NodeId(uuid::Uuid::from_u128(n))
    }

    fn address(n: u16) -> SocketAddr {
        ([192, 0, 2, 1], n).into()
    }

    fn note(revision: i64, asker: u128, token: u64) -> Note {
        Note { network: network(1), revision, node: node(asker), token }
    }

    fn ask(now: Instant, nodes: &[u16]) -> Ask {
        let missing = nodes.iter().map(|n| (node(u128::from(*n)), address(*n))).collect();
        Ask { network: network(1), revision: 5, missing, deadline: now + Duration::from_secs(1), next: now }
    }

    #[test]
    fn everybody_is_asked_at_once_and_only_the_silent_ones_again() {
        let now = Instant::now();
        let mut asks = Asks::default();
        asks.open(7, ask(now, &[1, 2]));
        let question = Packet::Ask(note(5, 9, 7));
        assert_eq!(asks.turn(now, node(9)).send, [(address(1), question), (address(2), question)]);
        assert!(asks.turn(now, node(9)).send.is_empty());
        asks.applied(&note(5, 1, 7), address(1));
        assert_eq!(asks.next(), Some(now + REPEAT));
        assert_eq!(asks.turn(now + REPEAT, node(9)).send, [(address(2), question)]);
        asks.applied(&note(6, 2, 7), address(2));
        assert_eq!(asks.turn(now + REPEAT, node(9)).done, [(7, BTreeSet::new())]);
        assert_eq!(asks.next(), None);
    }

    #[test]
    fn the_silent_ones_are_named_at_the_deadline() {
        let now = Instant::now();
        let mut asks = Asks::default();
        asks.open(7, ask(now, &[1, 2]));
        asks.applied(&note(5, 1, 7), address(1));
        let turn = asks.turn(now + Duration::from_secs(1), node(9));
        assert_eq!(turn.done, [(7, BTreeSet::from([node(2)]))]);
        assert!(turn.send.is_empty());
    }

    #[test]
    fn an_answer_to_something_else_or_from_elsewhere_does_not_count() {
        let now = Instant::now();
        let mut asks = Asks::default();
        asks.open(7, ask(now, &[1]));
        asks.applied(&note(4, 1, 7), address(1));
        asks.applied(&note(5, 1, 8), address(1));
        asks.applied(&note(5, 2, 7), address(1));
        asks.applied(&Note { network: network(2), ..note(5, 1, 7) }, address(1));
        asks.applied(&note(5, 1, 7), address(2));
        assert!(asks.turn(now, node(9)).done.is_empty());
    }

    #[test]
    fn a_question_to_nobody_is_over_at_once() {
        let now = Instant::now();
        let mut asks = Asks::default();
        asks.open(7, ask(now, &[]));
        assert_eq!(asks.turn(now, node(9)).done, [(7, BTreeSet::new())]);
    }

    #[test]
    fn a_question_waits_until_its_revision_is_applied() {
        let now = Instant::now();
        let mut answers = Answers::default();
        assert_eq!(answers.asked(note(5, 1, 7), address(1), now, node(9)), Reception::Kept);
        assert_eq!(answers.asked(note(5, 1, 7), address(1), now, node(9)), Reception::Kept);
        assert!(answers.applied(network(2), 9, node(9)).is_empty());
        assert!(answers.applied(network(1), 4, node(9)).is_empty());
        let answer = Packet::Applied(note(6, 9, 7));
        assert_eq!(answers.applied(network(1), 6, node(9)), [(address(1), answer)]);
        assert!(answers.applied(network(1), 7, node(9)).is_empty(), "answered once");
        let answer = Packet::Applied(note(7, 9, 8));
        assert_eq!(answers.asked(note(7, 1, 8), address(1), now, node(9)), Reception::Answer(answer));
    }

    #[test]
    fn whoever_waits_for_a_network_that_is_gone_is_told() {
        let now = Instant::now();
        let mut answers = Answers::default();
        answers.applied(network(1), 4, node(9));
        answers.asked(note(5, 1, 7), address(1), now, node(9));
        assert_eq!(answers.forget(network(1), node(9)), [(address(1), Packet::Applied(note(5, 9, 7)))]);
        assert_eq!(answers.asked(note(3, 1, 7), address(1), now, node(9)), Reception::Kept);
    }

    #[test]
    fn too_many_questions_push_out_the_oldest_and_stale_ones_go_by_themselves() {
        let now = Instant::now();
        let mut answers = Answers::default();
        for token in 0..MAX_WAITING as u64 {
            assert_eq!(answers.asked(note(5, 1, token), address(1), now, node(9)), Reception::Kept);
        }
        assert_eq!(answers.asked(note(5, 1, 5000), address(1), now, node(9)), Reception::KeptForAnother);
        assert_eq!(answers.applied(network(1), 5, node(9)).len(), MAX_WAITING);
        answers.asked(note(6, 1, 1), address(1), now, node(9));
        answers.asked(note(6, 1, 2), address(1), now + STALE * 2, node(9));
        assert_eq!(answers.waiting.len(), 1);
    }
}
