//! Admission of incoming membership messages: which senders and contents are accepted.
//!
//! A datagram proves nothing but that somebody could send it. So it counts only from the address of a node that the store has;
//! of what it says of others, only what is of such nodes counts; and an announcement is answered with all that we know
//! only if it calls us by our present generation, which shows that its sender hears us.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use foca::{Foca, Identity as _, Message};
use foca_rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use super::{
    core::Core,
    identity::Identity,
    letter::{Letter, bare},
    protocol::{MAX_MEMBERS, settings},
    roster::{Nodes, Roster, same},
    strangers::Heard,
    timers::Timers,
};

/// Most who take part before the store has been read.
const TENTATIVE: usize = 64;
/// Least time between two steps above what others take us for: two hosts with one address would go on without end.
const RISE: Duration = Duration::from_secs(1);

impl Core {
    /// The store has these nodes.
    pub(super) fn know(&mut self, nodes: Arc<Nodes>, now: Instant) {
        let first = !self.roster.is_read();
        self.roster = Roster::of(nodes);
        self.resync.changed = true;
        let roster = &self.roster;
        let strange = |id: &Identity| !roster.knows(id.node, id.address);
        if first && self.swim.iter_membership_state().any(|member| strange(member.id())) {
            self.begin_anew(now);
        }
    }

    /// A datagram of an unknown node came in.
    pub(super) fn refuse(&mut self, claim: Heard, now: Instant) {
        self.counters.refused.more();
        tracing::debug!(from = %claim.from, node = %claim.node, "datagram from an unknown node");
        if self.roster.is_read() {
            self.strangers.note(claim, now);
        }
    }

    /// Says what was refused, if it is time.
    pub(super) fn tell_of_strangers(&mut self, now: Instant) {
        let Some((claim, count)) = self.strangers.due(&self.roster, now) else { return };
        let Heard { node, address, from } = claim;
        tracing::warn!(
            "refused {count} gossip datagrams from unknown nodes; the last came from {from} and claimed to \
             be node {node} at {address}, which the store does not have. If it is a host of this cluster, \
             check that it uses the same store and that nothing translates its address on the way"
        );
    }

    /// A message of the membership protocol came in.
    pub(super) fn swim_message(&mut self, message: &[u8], from: SocketAddr, now: Instant) {
        let Some(mut letter) = Letter::open(&mut self.codec, message) else {
            self.counters.malformed.more();
            return;
        };
        let source = letter.header.src.clone();
        if !self.may_speak(&source, from) {
            self.refuse(Heard { node: source.node, address: source.address, from }, now);
            return;
        }
        let stranger = letter.third().is_some_and(|third| !self.roster.knows(third.node, third.address));
        if stranger || !self.has_room(&source) || source.address == self.swim.identity().address {
            self.counters.dropped.more();
            return;
        }
        let own = self.swim.identity().clone();
        let namesake = letter.namesakes(&own).reduce(newer).cloned();
        let sifted = letter.sift(&own, &self.roster).then(|| letter.to_bytes(&mut self.codec)).flatten();
        self.take_in(&letter, sifted.as_deref().unwrap_or(message), now);
        if let Some(namesake) = namesake {
            self.rise_above(&namesake, now);
        }
    }

    /// Lets the protocol have what was let in, and sees to the answer.
    fn take_in(&mut self, letter: &Letter, message: &[u8], now: Instant) {
        let (source, kind) = (&letter.header.src, &letter.header.message);
        let hears_us = letter.header.dst == *self.swim.identity();
        let was_up = self.is_up(source);
        let known = self.swim.iter_membership_state().map(foca::Member::id);
        let known = known.filter(|id| id.address == source.address && *id != source);
        let winner = known.filter(|id| id.win_addr_conflict(source)).last().cloned();
        let before = self.out.len();
        if let Some(error) = self.drive(now, |swim, effects| swim.handle_data(message, effects)) {
            self.count(&error);
        }
        if *kind == Message::Announce && !hears_us {
            for (_, datagram) in self.out.iter_mut().skip(before) {
                *datagram = bare(&mut self.codec, datagram);
            }
        }
        if let Some(winner) = winner {
            // So that it hears what it has to go above.
            self.drive(now, |swim, effects| swim.announce(winner, effects));
        } else if *kind == Message::Feed && !was_up && self.is_up(source) {
            // Now that we can call it by its generation it tells us of all others.
            self.drive(now, |swim, effects| swim.announce(source.clone(), effects));
        }
    }

    fn may_speak(&self, source: &Identity, from: SocketAddr) -> bool {
        let known = !self.roster.is_read() || self.roster.knows(source.node, source.address);
        known && same(source.address, from)
    }

    fn has_room(&self, source: &Identity) -> bool {
        let most = if self.roster.is_read() { MAX_MEMBERS } else { TENTATIVE };
        let mut known = self.swim.iter_membership_state();
        known.len() < most || known.any(|member| member.id().address == source.address)
    }

    fn is_up(&self, id: &Identity) -> bool {
        self.swim.iter_members().any(|member| member.id() == id)
    }

    /// Goes above what somebody takes us for, unless we are: another spoke in our name, or our clock was set back.
    fn rise_above(&mut self, namesake: &Identity, now: Instant) {
        let own = self.swim.identity();
        let soon = self.risen.is_some_and(|risen| now.saturating_duration_since(risen) < RISE);
        if own.leaving || soon || !self.roster.is_read() || own.win_addr_conflict(namesake) {
            return;
        }
        let above = own.above(namesake);
        self.risen = Some(now);
        self.revive = None;
        self.say_back(&above, now);
        self.drive(now, |swim, effects| swim.change_identity(above, effects));
    }

    /// Forgets all members, those that took part unseen among them, and meets the others anew.
    fn begin_anew(&mut self, now: Instant) {
        let again = self.swim.identity().refreshed();
        let rng = SmallRng::seed_from_u64(self.rng.next_u64());
        self.swim = Foca::new(again, settings(1), rng, self.codec);
        self.timers = Timers::default();
        self.sized_for = 1;
        self.seeds.hurry(now);
    }

    fn count(&self, error: &foca::Error) {
        match error {
            foca::Error::Decode(_) | foca::Error::MalformedPacket | foca::Error::DataTooBig => {
                self.counters.malformed.more();
            }
            foca::Error::NotUndead
            | foca::Error::SameIdentity
            | foca::Error::NotConnected
            | foca::Error::IncompleteProbeCycle
            | foca::Error::DataFromOurselves
            | foca::Error::IndirectForOurselves
            | foca::Error::Encode(_)
            | foca::Error::CustomBroadcast(_)
            | foca::Error::InvalidConfig => self.counters.dropped.more(),
        }
    }
}

fn newer<'a>(one: &'a Identity, other: &'a Identity) -> &'a Identity {
    if other.win_addr_conflict(one) { other } else { one }
}
