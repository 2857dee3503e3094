//! Both sides of confirmations together: our open questions with those who wait for their ends, and our answers to the
//! others. The rules are in [`super::confirm`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    Counters,
    confirm::{Answers, Ask, Asks, Outgoing, Reception},
    handle::Confirm,
    wire::{Note, Packet},
};
use crate::model::{NetworkId, NodeId};

/// Questions, ours and the others'.
pub(super) struct Questions {
    node: NodeId,
    counters: Arc<Counters>,
    asks: Asks,
    /// Who waits for the end of a question, by its token.
    askers: BTreeMap<u64, oneshot::Sender<BTreeSet<NodeId>>>,
    answers: Answers,
}

impl Questions {
    pub(super) fn new(node: NodeId, counters: Arc<Counters>) -> Self {
        let (asks, askers, answers) = (Asks::default(), BTreeMap::new(), Answers::default());
        Self { node, counters, asks, askers, answers }
    }

    /// Opens a question under a token that is not in use; [`Questions::turn`] asks it.
    pub(super) fn open(&mut self, token: u64, confirm: Confirm, now: Instant) {
        let Confirm { network, revision, nodes, deadline, reply } = confirm;
        self.asks.open(token, Ask { network, revision, missing: nodes, deadline, next: now });
        self.askers.insert(token, reply);
    }

    /// Somebody answers us.
    pub(super) fn answered(&mut self, note: &Note, from: SocketAddr) {
        self.asks.applied(note, from);
    }

    /// Somebody asks us: the answer, if there is one now.
    pub(super) fn asked(&mut self, note: Note, from: SocketAddr, now: Instant) -> Option<Packet<'static>> {
        self.counters.asked.more();
        match self.answers.asked(note, from, now, self.node) {
            Reception::Answer(answer) => {
                self.counters.answered.more();
                return Some(answer);
            }
            Reception::Kept => (),
            Reception::KeptForAnother => self.counters.forgotten.more(),
        }
        None
    }

    /// We have applied a revision of a network, or have nothing of it any more: the answers that follow.
    pub(super) fn applied(&mut self, network: NetworkId, revision: Option<i64>) -> Vec<Outgoing> {
        let answers = match revision {
            Some(revision) => self.answers.applied(network, revision, self.node),
            None => self.answers.forget(network, self.node),
        };
        answers.iter().for_each(|_| self.counters.answered.more());
        answers
    }

    /// Asks what is to be asked (again), and tells those who wait what is over.
    pub(super) fn turn(&mut self, now: Instant) -> Vec<Outgoing> {
        let (asks, askers) = (&mut self.asks, &mut self.askers);
        askers.retain(|token, asker| {
            let waits = !asker.is_closed();
            if !waits {
                asks.close(*token);
            }
            waits
        });
        let turn = asks.turn(now, self.node);
        for (token, missing) in turn.done {
            if let Some(asker) = askers.remove(&token)
                && asker.send(missing).is_err()
            {
                tracing::debug!("nobody waits for this confirmation any more");
            }
        }
        turn.send
    }

    /// When [`Questions::turn`] has something to do next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.asks.next()
    }
}
