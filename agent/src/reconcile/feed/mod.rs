//! Turns a store's changes into facts: parses keys and values, and leaves unreadable records as they were.

use std::{collections::BTreeSet, str::FromStr, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    evidence::Evidence,
    gate::{Gate, Heard, Verdict},
    world::World,
};
use crate::{
    convert::Record,
    intent::{Fact, Source, Touched},
    model::{ClusterId, Endpoint, Invalid, Leg, Member, Network, Node, Sandbox, chain},
    store::{Change, Identity, Key, KeyRange, Store},
};

/// Pause before a store that did not answer is read again.
const READ_AGAIN: Duration = Duration::from_secs(2);
/// How often a held store is read even without a change.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Records that are read before the task yields: a few milliseconds of work.
const AT_ONCE: usize = 1000;

/// A source of intent, and what it is checked against.
#[derive(Debug)]
pub struct Feed {
    /// Which.
    pub source: Source,
    /// The store, to read it again while it is held.
    pub store: Store,
    /// The followed key range.
    pub range: KeyRange,
    /// The evidence in the kernel when the agent started; [`Evidence::default`] is none.
    pub evidence: Evidence,
}

/// Take in what a follower sends until it stops. While the store is not plausible it is held: nothing is
/// taken in until it is plausible again, or an operator accepts it.
pub async fn feed(world: Arc<World>, feed: Feed, mut changes: mpsc::Receiver<Change>) {
    let mut evidence = Some(&feed.evidence);
    // Of a store that was read again meanwhile, what its follower has yet to tell is known up to this revision.
    let mut known_to = 0;
    while let Some(change) = changes.recv().await {
        let (heard, revision) = read(&world, feed.source, &change).await;
        if heard.whole {
            known_to = 0;
        } else if revision <= known_to {
            continue;
        }
        let gate = Gate { world: &world, source: feed.source, store: &feed.store, evidence };
        let (heard, revision) = match gate.judge(&heard).await {
            Verdict::Believe => (heard, revision),
            verdict @ (Verdict::Hold(_) | Verdict::Unclear(_)) => {
                let Some((heard, revision)) = hold(&gate, &feed.range, verdict, &mut changes).await else {
                    return;
                };
                known_to = revision;
                (heard, revision)
            }
        };
        evidence = None;
        take_in(&world, feed.source, revision, heard);
    }
}

/// Read the store again, after each change and at intervals, until it can be believed. `None` if the follower
/// stopped.
async fn hold(
    gate: &Gate<'_>,
    range: &KeyRange,
    mut verdict: Verdict,
    changes: &mut mpsc::Receiver<Change>,
) -> Option<(Heard, i64)> {
    let mut turns = gate.world.hold_changes();
    let mut last = None;
    loop {
        let mut pause = LOOK_AGAIN;
        match verdict {
            Verdict::Believe => {
                if gate.world.set_held(gate.source, None) {
                    tracing::info!(source = %gate.source, "the store is believed again: this host follows \
                                                           it");
                }
                return last;
            }
            Verdict::Hold(why) => {
                if gate.world.set_held(gate.source, Some(why.clone())) {
                    tracing::error!(source = %gate.source, "held: {why}");
                }
            }
            Verdict::Unclear(error) => {
                tracing::debug!(
                    source = %gate.source, %error,
                    "cannot decide yet whether to believe the store"
                );
                pause = READ_AGAIN;
            }
        }
        turns.mark_unchanged();
        tokio::select! {
            // What it says is in what is read next, too.
            change = changes.recv() => drop(change?),
            _ = turns.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
        verdict = match gate.store.list(range).await {
            Ok(listing) => {
                let revision = listing.revision;
                let (heard, _) = read(gate.world, gate.source, &Change::Snapshot(listing)).await;
                let verdict = gate.judge(&heard).await;
                last = Some((heard, revision));
                verdict
            }
            Err(error) => Verdict::Unclear(chain(&error)),
        };
    }
}

/// Parse a change. The task yields in between, because many keys take a while.
async fn read(world: &World, source: Source, change: &Change) -> (Heard, i64) {
    let mut heard = Heard::default();
    let revision = match change {
        Change::Snapshot(listing) => {
            heard.whole = true;
            heard.cluster = (source == Source::Global).then_some(None);
            for some in listing.entries.chunks(AT_ONCE) {
                for entry in some {
                    note(&mut heard, &entry.key, Some(&entry.value));
                }
                tokio::task::yield_now().await;
            }
            listing.revision
        }
        Change::Events { revision, events } => {
            for event in events {
                note(&mut heard, &event.key, event.entry.as_ref().map(|entry| &*entry.value));
            }
            *revision
        }
    };
    complete(world, source, &mut heard);
    (heard, revision)
}

fn note(heard: &mut Heard, key: &str, value: Option<&[u8]>) {
    let parsed = match Key::from_str(key) {
        Ok(parsed) => parsed,
        Err(error) => {
            tracing::warn!(%error, "the store has a foreign key under our prefix");
            return;
        }
    };
    if parsed == Key::Identity(Identity::Cluster) {
        heard.cluster = Some(value.map(identity));
    } else if parsed == Key::Identity(Identity::Lost) {
        heard.lost = value.map(|value| String::from_utf8_lossy(value).into_owned());
    } else {
        match fact(&parsed, value) {
            Ok(fact) => heard.facts.extend(fact),
            Err(error) => {
                tracing::warn!(key = %parsed, %error, "cannot read a record: its last known value stays");
                heard.unreadable.extend(fact_of_removal(&parsed).map(|fact| fact.touched()));
            }
        }
    }
}

/// The cluster's identity; the nil UUID, which no cluster has, if it cannot be read.
fn identity(value: &[u8]) -> ClusterId {
    String::from_utf8_lossy(value).trim().parse().unwrap_or(ClusterId(uuid::Uuid::nil()))
}

/// For a whole listing: first the removals of known records that are not in it.
fn complete(world: &World, source: Source, heard: &mut Heard) {
    if heard.whole {
        let mut facts = world.read(|intent| intent.missing_in(source, &heard.facts, &heard.unreadable));
        facts.append(&mut heard.facts);
        heard.facts = facts;
    }
}

/// Take in what is believed, without unexplained removals.
fn take_in(world: &World, source: Source, revision: i64, heard: Heard) {
    let Heard { mut facts, unreadable, whole, .. } = heard;
    let (mut kept, mut unknown) = match whole {
        true => (BTreeSet::new(), orphans(world, &facts)),
        false => (world.kept(source), world.unknown(source)),
    };
    if !whole {
        for touched in facts.iter().map(Fact::touched) {
            kept.remove(&touched);
            unknown.remove(&touched);
        }
    }
    let (doubted, fresh) = world.read(|intent| {
        let fresh: Vec<Touched> = unreadable.iter().filter(|it| !intent.knows(it)).cloned().collect();
        (intent.still_referred_to(world.me, &facts), fresh)
    });
    unknown.extend(fresh);
    for touched in doubted.difference(&kept) {
        tracing::error!(
            record = %touched,
            "a record was deleted from the store while others refer to it: this host keeps it as it was"
        );
    }
    if !doubted.is_empty() {
        facts.retain(|fact| !(doubted.contains(&fact.touched()) && fact.is_removal()));
    }
    kept.extend(doubted);
    world.set_doubts(source, kept.clone(), unknown);
    if whole {
        let stays = unreadable.union(&kept).cloned().collect();
        world.feed_snapshot(source, revision, facts, &stays);
    } else {
        world.feed(source, revision, facts);
    }
    let_go(world, source, revision, kept);
}

/// Remove records that were kept only because of others that are gone by now.
fn let_go(world: &World, source: Source, revision: i64, kept: BTreeSet<Touched>) {
    if kept.is_empty() {
        return;
    }
    let gone: Vec<Fact> = kept.iter().cloned().map(Fact::gone).collect();
    let still = world.read(|intent| intent.still_referred_to(world.me, &gone));
    let over: Vec<Fact> = gone.into_iter().filter(|fact| !still.contains(&fact.touched())).collect();
    if !over.is_empty() {
        world.set_doubts(source, still, world.unknown(source));
        world.feed(source, revision, over);
    }
}

/// The networks of this node's endpoints whose records were never read.
fn orphans(world: &World, facts: &[Fact]) -> BTreeSet<Touched> {
    let networks = facts.iter().filter_map(|fact| {
        let Fact::Endpoint(network, _, Some(endpoint)) = fact else { return None };
        (endpoint.node == world.me).then_some(Touched::Network(*network))
    });
    let mut orphans: BTreeSet<Touched> = networks.collect();
    for fact in facts.iter().filter(|fact| matches!(fact, Fact::Network(_, Some(_)))) {
        orphans.remove(&fact.touched());
    }
    world.read(|intent| orphans.retain(|network| !intent.knows(network)));
    orphans
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
        | Key::Mac(..)
        | Key::Pool(_)
        | Key::Sysctl(_)
        | Key::Identity(_) => return Ok(None),
    }))
}

/// A leg's value is its index in decimal.
fn leg(value: &[u8]) -> Result<Leg, Invalid> {
    let text = String::from_utf8_lossy(value);
    let wrong = |_| Invalid::new("host leg", text.clone(), "expected a number from 0 to 8191");
    text.parse().map_err(wrong).and_then(Leg::new)
}

#[cfg(test)]
mod tests;
