//! The members as the rest of the agent sees them: one entry for each node.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use super::identity::{Identity, order};
use crate::model::{Name, NodeId, Timestamp};

/// Every node that the gossip knows of, this one included.
pub type Members = BTreeMap<NodeId, Member>;

/// A node as the gossip knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// Where it gossips.
    pub address: SocketAddr,
    /// Where it sends and receives VXLAN.
    pub vtep: IpAddr,
    /// Its agent's version.
    pub version: String,
    /// How it is.
    pub state: State,
    /// Since when it is so, by this node's clock.
    pub since: Timestamp,
    /// When it started, in milliseconds since the Unix epoch by its own clock; goes up with every renewal.
    pub generation: u64,
}

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It answers.
    Alive,
    /// It did not answer lately; it has some seconds to speak up.
    Suspect,
    /// It does not answer.
    Down,
    /// It has said that it goes.
    Left,
}

impl State {
    /// Whether it takes part: alive, or not yet given up.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        })
    }
}

/// The view of `known` and ourselves. Of several identities of one node the newest counts; `before` tells since when a
/// state holds.
pub(super) fn resync<'a>(
    own: &Identity,
    known: impl Iterator<Item = &'a foca::Member<Identity>>,
    before: &Members,
    now: Timestamp,
) -> Members {
    let mut members = Members::new();
    for one in known {
        let node = one.id().node;
        let Some(member) = member(one.id(), state(one)).filter(|_| node != own.node) else { continue };
        let newer = |other: &Member| {
            let order = order(other.generation, member.generation);
            order.then_with(|| other.state.is_active().cmp(&member.state.is_active())).is_ge()
        };
        if !members.get(&node).is_some_and(newer) {
            members.insert(node, member);
        }
    }
    let state = if own.leaving { State::Left } else { State::Alive };
    members.extend(member(own, state).map(|member| (own.node, member)));
    for (node, member) in &mut members {
        let same = before.get(node).filter(|before| before.state == member.state);
        member.since = same.map_or(now, |before| before.since);
    }
    members
}

fn state(member: &foca::Member<Identity>) -> State {
    if member.id().leaving {
        return State::Left;
    }
    match member.state() {
        foca::State::Alive => State::Alive,
        foca::State::Suspect => State::Suspect,
        foca::State::Down => State::Down,
    }
}

/// None for an identity that says nothing of itself: those are never members.
fn member(identity: &Identity, state: State) -> Option<Member> {
    let profile = identity.profile.as_ref()?;
    Some(Member {
        name: profile.name.clone(),
        address: identity.address,
        vtep: profile.vtep,
        version: profile.version.clone(),
        state,
        since: Timestamp::default(),
        generation: identity.generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::GossipConfig;

    fn identity(node: u128, port: u16, generation: u64) -> Identity {
        Identity::own(&GossipConfig {
            node: NodeId(uuid::Uuid::from_u128(node)),
            name: "n".parse().unwrap(),
            advertise: ([192, 0, 2, 1], port).into(),
            vtep: [192, 0, 2, 1].into(),
            version: "1".into(),
            generation,
            seed: 0,
        })
    }

    fn id(node: u128) -> NodeId {
        NodeId(uuid::Uuid::from_u128(node))
    }

    fn known(identity: Identity, state: foca::State) -> foca::Member<Identity> {
        foca::Member::new(identity, 0, state)
    }

    #[test]
    fn of_a_node_that_moved_the_newest_identity_counts() {
        let own = identity(1, 1, 1);
        let old = known(identity(2, 2, 5), foca::State::Alive);
        let new = known(identity(2, 3, 6), foca::State::Down);
        for order in [[&old, &new], [&new, &old]] {
            let members = resync(&own, order.into_iter(), &Members::new(), Timestamp(9));
            assert_eq!(members.len(), 2);
            assert_eq!((members[&id(2)].address.port(), members[&id(2)].state), (3, State::Down));
        }
    }

    #[test]
    fn nobody_else_can_pass_for_us() {
        let own = identity(1, 1, 1);
        let other = known(identity(1, 2, 99), foca::State::Down);
        let members = resync(&own, [&other].into_iter(), &Members::new(), Timestamp(9));
        assert_eq!((members[&id(1)].address.port(), members[&id(1)].state), (1, State::Alive));
    }

    #[test]
    fn since_changes_with_the_state_alone() {
        let own = identity(1, 1, 1);
        let alive = known(identity(2, 2, 1), foca::State::Alive);
        let suspect = known(identity(2, 2, 1), foca::State::Suspect);
        let first = resync(&own, [&alive].into_iter(), &Members::new(), Timestamp(10));
        let second = resync(&own, [&alive].into_iter(), &first, Timestamp(20));
        let third = resync(&own, [&suspect].into_iter(), &second, Timestamp(30));
        assert_eq!(first, second);
        assert_eq!((third[&id(1)].since, third[&id(2)].since), (Timestamp(10), Timestamp(30)));
    }

    #[test]
    fn one_who_left_is_not_down() {
        let gone = known(identity(2, 2, 1).departing(), foca::State::Down);
        let members = resync(&identity(1, 1, 1), [&gone].into_iter(), &Members::new(), Timestamp(1));
        assert_eq!(members[&id(2)].state, State::Left);
    }
}
