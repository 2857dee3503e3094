//! From what a store says to facts: keys and values parsed, what cannot be read left as it was.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use tokio::sync::mpsc;

use super::world::World;
use crate::{
    convert::Record,
    intent::{Fact, Source, Touched},
    model::{Endpoint, Invalid, Member, Network, Node, Sandbox},
    plan::Leg,
    store::{Change, Key},
};

/// Take in what a follower sends until it stops.
pub async fn feed(world: Arc<World>, source: Source, mut changes: mpsc::Receiver<Change>) {
    while let Some(change) = changes.recv().await {
        match change {
            Change::Snapshot(listing) => {
                let mut unreadable = BTreeSet::new();
                let entries = listing.entries.iter();
                let facts = entries
                    .filter_map(|entry| readable(&entry.key, Some(&entry.value), &mut unreadable))
                    .collect();
                world.feed_snapshot(source, listing.revision, facts, &unreadable);
            }
            Change::Events { revision, events } => {
                let mut unreadable = BTreeSet::new();
                let facts = events.iter().filter_map(|event| {
                    readable(&event.key, event.entry.as_ref().map(|entry| &*entry.value), &mut unreadable)
                });
                world.feed(source, revision, facts.collect());
            }
        }
    }
}

/// The fact, or None for a key that says nothing here, or a value that cannot be read: that one keeps what was known.
fn readable(key: &str, value: Option<&[u8]>, unreadable: &mut BTreeSet<Touched>) -> Option<Fact> {
    let parsed = match Key::from_str(key) {
        Ok(parsed) => parsed,
        Err(error) => {
            tracing::warn!(%error, "a key that is not ours lies in our part of the store");
            return None;
        }
    };
    match fact(&parsed, value) {
        Ok(fact) => fact,
        Err(error) => {
            tracing::warn!(%key, %error, "a record cannot be read; what was known of it stays");
            unreadable.extend(fact_of_removal(&parsed).map(|fact| fact.touched()));
            None
        }
    }
}

fn fact_of_removal(key: &Key) -> Option<Fact> {
    fact(key, None).unwrap_or_default()
}

fn fact(key: &Key, value: Option<&[u8]>) -> Result<Option<Fact>, Invalid> {
    Ok(Some(match key {
        Key::Here(key) => return fact(key, value),
        Key::Network(id) => Fact::Network(*id, value.map(Network::from_bytes).transpose()?),
        Key::Endpoint(network, id) => {
            Fact::Endpoint(*network, *id, value.map(Endpoint::from_bytes).transpose()?)
        }
        Key::Member(network, node) => {
            Fact::Member(*network, *node, value.map(Member::from_bytes).transpose()?)
        }
        Key::Node(id) => Fact::Node(*id, value.map(Node::from_bytes).transpose()?),
        Key::Alive(id) => Fact::Alive(*id, value.is_some()),
        Key::Sandbox(name) => Fact::Sandbox(name.clone(), value.map(Sandbox::from_bytes).transpose()?),
        Key::Leg(id) => Fact::Leg(*id, value.map(leg).transpose()?),
        Key::NetworkName(_)
        | Key::Vni(_)
        | Key::EndpointName(..)
        | Key::Address(..)
        | Key::Pool(_)
        | Key::Sysctl(_) => return Ok(None),
    }))
}

/// A leg's value is its index in decimal.
fn leg(value: &[u8]) -> Result<Leg, Invalid> {
    let text = String::from_utf8_lossy(value);
    let wrong = |_| Invalid::new("host leg", text.clone(), "expected a number from 0 to 8191");
    text.parse().map_err(wrong).and_then(Leg::new)
}
