//! Whether to believe what a store says: an empty or foreign store must not take a host's networks away.
//!
//! A store is checked against what this node knows: the identity of its cluster, its kernel's evidence at the
//! start, and the endpoints that its own verbs remove. A store that is not plausible is held until the
//! records are back or an operator decides.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    evidence::{Evidence, is_most},
    world::World,
};
use crate::{
    drivers::port_of,
    intent::{Fact, Source, Touched},
    model::{ClusterId, EndpointId, IfName, NetworkId, chain},
    store::{Identity, Key, Store, StoreError},
};

/// How many acceptances are followed from one identity to the next.
const ACCEPTED_MAX: usize = 16;
/// How many missing endpoints are looked up by their names.
const ASKED_MAX: usize = 3;
/// What an operator can do about it.
const REMEDY: &str = "This host removes nothing and refuses every change until the records are back (restore a backup of the \
                      store), or until you run 'ovctl cluster accept-empty', which removes from all hosts of this cluster what \
                      the store does not have";

/// A store's parsed answer.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The facts, in order. A whole listing starts with the removals of known records that are not in it.
    pub(super) facts: Vec<Fact>,
    /// Records that exist and cannot be read.
    pub(super) unreadable: BTreeSet<Touched>,
    /// It is a whole listing.
    pub(super) whole: bool,
    /// The cluster's identity: `None` if the answer does not mention it, `Some(None)` if it was removed.
    pub(super) cluster: Option<Option<ClusterId>>,
    /// Why the store was replaced by an empty one, if it says so.
    pub(super) lost: Option<String>,
}

/// The verdict on a store's answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is plausible, or an operator accepted it.
    Believe,
    /// It is not plausible, with the reason.
    Hold(String),
    /// The store did not answer a further question.
    Unclear(String),
}

/// What a source is checked against.
#[derive(Debug)]
pub(super) struct Gate<'a> {
    pub(super) world: &'a World,
    pub(super) source: Source,
    pub(super) store: &'a Store,
    /// `None` once this source has been believed.
    pub(super) evidence: Option<&'a Evidence>,
}

impl Gate<'_> {
    /// Judge a store's answer. An identity that is new to this node becomes known when it is believed.
    pub(super) async fn judge(&self, heard: &Heard) -> Verdict {
        let accepted = self.world.take_accepted(self.source);
        let judged = match self.source {
            Source::Local => Ok(self.local(heard)),
            Source::Global => self.global(heard).await,
        };
        match judged {
            Ok(Some(_why)) if accepted => {
                self.adopt(heard);
                Verdict::Believe
            }
            Ok(Some(why)) => Verdict::Hold(why),
            Ok(None) => {
                self.adopt(heard);
                Verdict::Believe
            }
            Err(error) => {
                if accepted {
                    self.world.accept(self.source);
                }
                Verdict::Unclear(chain(&error))
            }
        }
    }

    fn adopt(&self, heard: &Heard) {
        if let (Source::Global, Some(Some(id))) = (self.source, heard.cluster) {
            self.world.set_cluster(id);
        }
    }

    fn local(&self, heard: &Heard) -> Option<String> {
        if let Some(why) = &heard.lost {
            return Some(format!(
                "{why}. Sandboxes and networks of this host keep working; it removes nothing and refuses \
                 every change until the file is restored (stop the agent, put it back, start it), or until \
                 you run 'ovctl cluster accept-empty', which removes them, or 'ovagent cleanup', which \
                 removes everything of ovnet from this host"
            ));
        }
        let evidence = self.evidence.filter(|_| heard.whole)?;
        let known = heard.facts.iter().filter_map(|fact| {
            let Fact::Sandbox(_, Some(sandbox)) = fact else { return None };
            Some(sandbox.id)
        });
        let known: BTreeSet<_> = known.collect();
        let gone = evidence.sandboxes.difference(&known).count();
        is_most(gone, evidence.sandboxes.len()).then(|| {
            format!(
                "this host has {} sandboxes in its kernel, and its own store has no record of {gone} of them: was an old copy \
                 of the state directory restored? This host removes nothing and refuses every change until \
                 the right file is restored (stop the agent, put it back, start it), or until you run 'ovctl \
                 cluster accept-empty', which removes them",
                evidence.sandboxes.len()
            )
        })
    }

    async fn global(&self, heard: &Heard) -> Result<Option<String>, StoreError> {
        let known = self.world.cluster();
        match (known, heard.cluster) {
            (Some(known), Some(found)) if found != Some(known) => {
                if let Some(found) = found
                    && self.was_accepted(known, found).await?
                {
                    return Ok(None);
                }
                return Ok(Some(self.foreign(known, found)));
            }
            (Some(_) | None, _) => {}
        }
        if let Some(evidence) = self.evidence.filter(|_| heard.whole)
            && let Some(why) = self.against(evidence, known, heard).await?
        {
            return Ok(Some(why));
        }
        self.removals(heard).await
    }

    /// Whether an operator accepted that the hosts of one cluster follow the records of the other.
    async fn was_accepted(&self, from: ClusterId, to: ClusterId) -> Result<bool, StoreError> {
        let mut at = from;
        for _ in 0..ACCEPTED_MAX {
            let Some(entry) = self.store.get(&Key::Identity(Identity::Accepted(at))).await?.1 else {
                return Ok(false);
            };
            match String::from_utf8_lossy(&entry.value).trim().parse() {
                Ok(next) if next == to => return Ok(true),
                Ok(next) => at = next,
                Err(_damaged) => return Ok(false),
            }
        }
        Ok(false)
    }

    fn foreign(&self, known: ClusterId, found: Option<ClusterId>) -> String {
        let what = match found {
            None => {
                "is empty, or has lost this cluster's records: the cluster's identity is not in it".to_owned()
            }
            Some(found) => format!("has the records of a different cluster: its identity is {found}"),
        };
        let remedy = match found {
            None => REMEDY.to_owned(),
            Some(_) => {
                format!(
                    "If this is the wrong store, correct the setting store and restart the agent. {REMEDY}"
                )
            }
        };
        format!("the store {what} (this host is of cluster {known}). {remedy}")
    }

    /// At the start: a store that does not know most of what the kernel has.
    async fn against(
        &self,
        evidence: &Evidence,
        known: Option<ClusterId>,
        heard: &Heard,
    ) -> Result<Option<String>, StoreError> {
        let networks = self.world.read(|intent| evidence.of_the_cluster(intent));
        let me = self.world.me;
        let mut recorded = BTreeSet::new();
        let mut here: BTreeMap<NetworkId, BTreeSet<IfName>> = BTreeMap::new();
        for fact in &heard.facts {
            match fact {
                Fact::Network(id, Some(_)) => drop(recorded.insert(*id)),
                Fact::Endpoint(id, endpoint, Some(record)) if record.node == me => {
                    here.entry(*id).or_default().insert(port_of(*endpoint));
                }
                Fact::Network(..)
                | Fact::Endpoint(..)
                | Fact::Member(..)
                | Fact::Node(..)
                | Fact::Alive(..)
                | Fact::Sandbox(..)
                | Fact::Leg(..) => {}
            }
        }
        let unread = |id: &NetworkId| {
            heard.unreadable.iter().any(|touched| match touched {
                Touched::Network(network) | Touched::Endpoint(network, _) => network == id,
                Touched::Member(..)
                | Touched::Node(_)
                | Touched::Alive(_)
                | Touched::Sandbox(_)
                | Touched::Leg(_) => false,
            })
        };
        let read: BTreeSet<NetworkId> = networks.iter().filter(|id| !unread(id)).copied().collect();
        let forsaken = self.forsakes(read, heard);
        let nothing = BTreeSet::new();
        let known_here = |id: &NetworkId| here.get(id).unwrap_or(&nothing);
        let endpoints = networks.iter().filter_map(|id| Some((id, evidence.endpoints.get(id)?)));
        let (mut all, mut gone) = (0, 0);
        for (id, there) in endpoints.filter(|(id, _)| !unread(id)) {
            all += there.len();
            gone += there.difference(known_here(id)).count();
        }
        let empty = networks.iter().filter(|id| known_here(id).is_empty() && !unread(id)).count();
        // A store that this node has never met, and that knows nothing of it.
        let stranger = known.is_none()
            && !networks.is_empty()
            && !networks.iter().any(|id| recorded.contains(id) || unread(id));
        let lost = forsaken || is_most(empty, networks.len()) || is_most(gone, all);
        // What was held is not let go because the agent was started again.
        let still = evidence.held && (empty > 0 || gone > 0);
        if !stranger && (!(lost || still) || self.was_removed().await?) {
            return Ok(None);
        }
        let what = match gone {
            0 => format!("no endpoint of this host in {empty} of the {} networks", networks.len()),
            _ => format!("no record of {gone} of this host's {all} endpoints"),
        };
        Ok(Some(format!("the store has {what} that its kernel has. {REMEDY}")))
    }

    /// Whether an operator removed this node (`ovctl node rm`).
    async fn was_removed(&self) -> Result<bool, StoreError> {
        Ok(self.store.get(&Key::Identity(Identity::Removed(self.world.me))).await?.1.is_some())
    }

    /// Endpoints of this host that were removed without a verb of this host.
    async fn removals(&self, heard: &Heard) -> Result<Option<String>, StoreError> {
        let me = self.world.me;
        let (removed, all) = self.world.read(|intent| {
            (intent.endpoints_removed(me, &heard.facts), intent.count_endpoints(self.source, me))
        });
        let gone = self.world.unexpected(removed.clone());
        let held = match self.deleted_by_hand(&gone).await? {
            Some(name) => Some(format!(
                "the record of this host's endpoint {name} is gone from the store, but its name is still \
                 there: keys were deleted by hand. {REMEDY}"
            )),
            // What is held is not let go because still more is gone.
            None if (is_most(gone.len(), all)
                || !gone.is_empty() && self.world.is_held(self.source)
                || self.forsakes(gone.iter().map(|(network, _)| *network).collect(), heard))
                && !self.was_removed().await? =>
            {
                Some(format!(
                    "{} of this host's {all} endpoints are gone from the store, and no command on this host \
                     removed them. {REMEDY}",
                    gone.len()
                ))
            }
            None => None,
        };
        if held.is_none() {
            self.world.forget_expected(&removed);
        }
        Ok(held)
    }

    /// Whether this node's part in one of these networks stays although none of its endpoints there does: a verb removes both at once.
    fn forsakes(&self, networks: BTreeSet<NetworkId>, heard: &Heard) -> bool {
        self.world.read(|intent| !intent.forsaken_by(self.world.me, &networks, &heard.facts).is_empty())
    }

    /// A verb removes an endpoint with its name, in one transaction.
    async fn deleted_by_hand(&self, gone: &[(NetworkId, EndpointId)]) -> Result<Option<String>, StoreError> {
        for (network, id) in gone.iter().take(ASKED_MAX) {
            let name =
                self.world.read(|intent| Some(intent.network(*network)?.endpoints().get(id)?.name.clone()));
            let Some(name) = name else { continue };
            let entry = self.store.get(&Key::EndpointName(*network, name.clone())).await?.1;
            if entry.is_some_and(|entry| *entry.value == *id.to_string().as_bytes()) {
                return Ok(Some(name.to_string()));
            }
        }
        Ok(None)
    }
}
