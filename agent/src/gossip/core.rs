//! Everything that a gossiping node decides, without input and output: datagrams, wishes and time come in, datagrams go
//! to [`Core::take_out`], and the members are in [`Core::members`].

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use foca::{Foca, NoCustomBroadcast, OwnedNotification};
use foca_rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::time::Instant;

use super::{
    Counters, GossipConfig, Members,
    codec::Codec,
    confirm::Outgoing,
    handle::{Confirm, Inbox},
    identity::Identity,
    protocol::{Effects, settings},
    questions::Questions,
    roster::Roster,
    seeds::Seeds,
    strangers::{Heard, Strangers},
    timers::Timers,
    view::resync,
    wire::Packet,
};
use crate::model::Timestamp;

/// Least time between two looks at the members.
const SURVEY: Duration = Duration::from_millis(10);
/// Time between two looks while somebody is suspect: that alone is not notified.
const SURVEY_SUSPECTS: Duration = Duration::from_millis(250);
/// How long we keep still after the others have declared us down too often.
const REVIVE: Duration = Duration::from_secs(30);
/// Rejoins that follow each other as closely as this are one: a node that was started with its clock behind takes many
/// steps to pass its former self.
const REJOINS: Duration = Duration::from_secs(10);
/// When there is nothing to do.
const LATER: Duration = Duration::from_secs(3600);

type Swim = Foca<Identity, Codec, SmallRng, NoCustomBroadcast>;

/// A gossiping node.
pub(super) struct Core {
    pub(super) swim: Swim,
    pub(super) codec: Codec,
    pub(super) timers: Timers,
    pub(super) seeds: Seeds,
    pub(super) roster: Roster,
    pub(super) strangers: Strangers,
    questions: Questions,
    members: Arc<Members>,
    pub(super) resync: Survey,
    /// How many members the protocol's settings are made for.
    pub(super) sized_for: usize,
    /// When to take part again after we gave up.
    pub(super) revive: Option<Instant>,
    /// When we last went above what others took us for.
    pub(super) risen: Option<Instant>,
    /// When the others had last given this node up.
    rejoined: Option<Instant>,
    pub(super) out: Vec<(SocketAddr, Bytes)>,
    pub(super) counters: Arc<Counters>,
    pub(super) rng: SmallRng,
    /// The start, by both clocks.
    start: (Instant, u64),
}

/// When to look at the members.
pub(super) struct Survey {
    /// Something was notified since the last look.
    pub(super) changed: bool,
    /// Somebody was suspect at the last look.
    suspects: bool,
    last: Instant,
}

impl Core {
    pub(super) fn new(config: GossipConfig, counters: Arc<Counters>, now: Instant) -> Self {
        let own = Identity::own(&config);
        let mut rng = SmallRng::seed_from_u64(config.seed);
        let swim_rng = SmallRng::seed_from_u64(rng.next_u64());
        let members = resync(&own, std::iter::empty(), &Members::new(), Timestamp(config.generation));
        let codec = Codec { own: config.advertise };
        Self {
            swim: Foca::new(own, settings(1), swim_rng, codec),
            codec,
            timers: Timers::default(),
            seeds: Seeds::new(now),
            roster: Roster::default(),
            strangers: Strangers::default(),
            questions: Questions::new(config.node, Arc::clone(&counters)),
            members: Arc::new(members),
            resync: Survey { changed: false, suspects: false, last: now },
            sized_for: 1,
            revive: None,
            risen: None,
            rejoined: None,
            out: Vec::new(),
            counters,
            rng,
            start: (now, config.generation),
        }
    }

    /// A datagram came in.
    pub(super) fn datagram(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        self.counters.received.more();
        match Packet::parse(datagram) {
            None => {
                self.counters.malformed.more();
                tracing::debug!(%from, length = datagram.len(), "cannot parse a datagram");
            }
            Some(Packet::Swim(message)) => self.swim_message(message, from, now),
            Some(Packet::Ask(note)) if !self.roster.knows(note.node, from) => {
                self.refuse(Heard { node: note.node, address: from, from }, now);
            }
            Some(Packet::Ask(note)) => {
                let answer = self.questions.asked(note, from, now);
                self.out.extend(answer.map(|answer| (from, answer.to_bytes())));
            }
            Some(Packet::Applied(note)) => self.questions.answered(&note, from),
        }
    }

    /// What the handle was told.
    pub(super) fn news(&mut self, news: Inbox, now: Instant) {
        if let Some(nodes) = news.nodes {
            self.know(nodes, now);
        }
        let own = self.swim.identity().address;
        self.seeds.add(news.seeds.into_iter().filter(|seed| *seed != own), now);
        for (network, revision) in news.networks {
            let answers = self.questions.applied(network, revision);
            self.say(answers);
        }
    }

    /// A question to others.
    pub(super) fn confirm(&mut self, confirm: Confirm, now: Instant) {
        let token = self.rng.next_u64();
        self.questions.open(token, confirm, now);
    }

    /// Does all that is due. To be called after everything that happens, and at [`Core::next`].
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop(now) {
            self.drive(now, |swim, effects| swim.handle_timer(timer, effects));
        }
        if self.revive.is_some_and(|at| at <= now) {
            self.revive = None;
            let again = self.swim.identity().refreshed();
            self.drive(now, |swim, effects| swim.change_identity(again, effects));
            self.seeds.hurry(now);
        }
        self.announce(now);
        let asks = self.questions.turn(now);
        self.say(asks);
        self.tell_of_strangers(now);
        self.look(now);
    }

    /// When [`Core::tick`] has something to do next.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let look = self.resync.changed.then(|| self.resync.last + SURVEY);
        let announce = if self.revive.is_some() { self.revive } else { Some(self.seeds.next()) };
        let all = [self.timers.next(), self.questions.next(), self.strangers.next(), look, announce];
        all.into_iter().flatten().min().unwrap_or(now + LATER)
    }

    /// Datagrams that are to be sent.
    pub(super) fn take_out(&mut self) -> Vec<(SocketAddr, Bytes)> {
        std::mem::take(&mut self.out)
    }

    /// The members as of the last look.
    pub(super) const fn members(&self) -> &Arc<Members> {
        &self.members
    }

    /// Says goodbye. The old identity makes place for one that is marked as leaving, so that the others can tell this
    /// from a failure.
    pub(super) fn leave(&mut self, now: Instant) {
        let leaving = self.swim.identity().departing();
        self.drive(now, |swim, effects| swim.change_identity(leaving, effects));
        self.drive(now, |swim, effects| swim.leave_cluster(effects));
        for _ in 0..2 {
            self.drive(now, |swim, effects| swim.gossip(effects));
        }
        self.revive = None;
        self.resync.changed = true;
        self.look(now + SURVEY);
    }

    fn say(&mut self, packets: Vec<Outgoing>) {
        self.out.extend(packets.into_iter().map(|(to, packet)| (to, packet.to_bytes())));
    }

    /// Calls the protocol, and takes in what it wants done.
    pub(super) fn drive(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut Swim, &mut Effects) -> Result<(), foca::Error>,
    ) -> Option<foca::Error> {
        let mut effects = Effects::default();
        let error = call(&mut self.swim, &mut effects).err();
        if let Some(error) = &error {
            tracing::debug!(%error, "the membership protocol refused a message");
        }
        self.out.append(&mut effects.packets);
        for (after, timer) in effects.timers {
            self.timers.push(now + after, timer);
        }
        for notice in effects.notices {
            self.notice(&notice, now);
        }
        error
    }

    fn notice(&mut self, notice: &OwnedNotification<Identity>, now: Instant) {
        self.resync.changed = true;
        match notice {
            OwnedNotification::MemberUp(member) => {
                tracing::info!(node = %member.called(), address = %member.address, "a node is up");
            }
            OwnedNotification::MemberDown(member) if member.leaving => {
                tracing::info!(node = %member.called(), address = %member.address, "a node has left");
            }
            OwnedNotification::MemberDown(member) => {
                tracing::warn!(
                    node = %member.called(), address = %member.address,
                    "a node is down: it does not answer"
                );
            }
            OwnedNotification::Rename(before, member) => {
                tracing::debug!(?before, ?member, "a new node replaced the one at its address");
            }
            OwnedNotification::Active => tracing::debug!("this node has peers"),
            OwnedNotification::Idle => {
                tracing::info!("this is the only node");
                self.seeds.hurry(now);
            }
            OwnedNotification::Rejoin(own) => {
                self.say_back(own, now);
                if self.swim.num_members() == 0 {
                    self.seeds.hurry(now);
                }
            }
            OwnedNotification::Defunct if self.swim.identity().leaving => (),
            OwnedNotification::Defunct => {
                tracing::warn!(
                    "the other nodes declare this node down again and again: is its address used twice?"
                );
                self.revive = Some(now + REVIVE);
            }
        }
    }

    /// Says that this node takes part again.
    pub(super) fn say_back(&mut self, own: &Identity, now: Instant) {
        let before = self.rejoined.replace(now);
        if before.is_some_and(|before| now.saturating_duration_since(before) < REJOINS) {
            tracing::debug!(?own, "the other nodes had declared this node down again");
        } else {
            tracing::info!(?own, "the other nodes had declared this node down; it is back");
        }
    }

    fn announce(&mut self, now: Instant) {
        if now < self.seeds.next() || self.revive.is_some() {
            return;
        }
        let present = self.swim.iter_members().map(|member| member.id().address).collect();
        let gone =
            |member: &&foca::Member<Identity>| member.state() == foca::State::Down && !member.id().leaving;
        let down: Vec<SocketAddr> =
            self.swim.iter_membership_state().filter(gone).map(|member| member.id().address).collect();
        for address in self.seeds.due(now, &present, &down) {
            self.drive(now, |swim, effects| swim.announce(Identity::unknown(address), effects));
        }
    }

    fn look(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.resync.last);
        if !(self.resync.changed && passed >= SURVEY || passed >= SURVEY_SUSPECTS) {
            return;
        }
        self.resync.last = now;
        let suspects = self.swim.iter_members().any(|member| member.state() == foca::State::Suspect);
        if !(self.resync.changed || suspects || self.resync.suspects) {
            return;
        }
        self.resync.changed = false;
        self.resync.suspects = suspects;
        let (start, epoch) = self.start;
        let elapsed = now.saturating_duration_since(start).as_millis();
        let time = Timestamp(epoch.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX)));
        let known = self.swim.iter_membership_state().filter(|member| self.roster.shows(member.id()));
        let members = resync(self.swim.identity(), known, &self.members, time);
        if members != *self.members {
            self.members = Arc::new(members);
        }
        self.resize();
    }

    /// Keeps the protocol's settings in step with the number of members.
    fn resize(&mut self) {
        let size = self.swim.num_members() + 1;
        if size == self.sized_for {
            return;
        }
        self.sized_for = size;
        if let Err(error) = self.swim.set_config(settings(size)) {
            tracing::debug!(%error, size, "the membership protocol keeps its settings");
        }
    }
}
