//! Networks: `network create`, `rm`, `prune`.
//!
//! `request` parses the request, `spec` makes a new network from it, and `check` compares that with this host
//! and the other networks. `default_bridge` has the default network.

mod check;
mod default_bridge;
mod request;
mod spec;

use std::collections::BTreeSet;

use ipnet::IpNet;

pub use default_bridge::DefaultBridge;
pub use request::{NetworkRequest, NetworkSpec};
pub(super) use spec::refuse_mode;

use self::{
    check::exists,
    spec::{Wanted, creation},
};
use super::{
    Service, ServiceError, TRIES,
    locks::{Turn, Work},
};
use crate::{
    convert::Record,
    intent::NetworkView,
    ipam::{self, SubnetKind},
    kernel::Kernel,
    model::{Name, Network, NetworkId, Scope, Vni},
    store::{Commit, CommitError, Guard, GuardRefusal, Key, KeyRange},
};

impl<K: Kernel> Service<K> {
    /// Make a network.
    ///
    /// # Errors
    /// A taken name, VNI, parent or bridge, a subnet that overlaps a route of the host, no subnet left, the store
    /// away.
    pub async fn create_network(&self, spec: NetworkSpec) -> Result<Network, ServiceError> {
        self.ready_to_change().await?;
        let mut wanted = Wanted::new(spec);
        let scope = wanted.network.scope;
        let _turn: Option<Turn> = match scope {
            Scope::Local => Some(self.turns.wait(Work::Creation).await?),
            Scope::Global => None,
        };
        let facts = self.kernel.facts().await?;
        self.check_network(&mut wanted, &facts).await?;
        let routes = self.foreign_routes(&facts, &wanted.network);
        let mut passed_over: Vec<IpNet> = routes.into_iter().map(|(prefix, _)| prefix).collect();
        let mut passed_vnis = Vec::new();
        for _ in 0..TRIES {
            let network = self.resolve(&wanted, &passed_over, &passed_vnis)?;
            match self.store(scope).commit(creation(&network, &wanted.chosen)).await {
                Ok(revision) => {
                    self.follow_change(scope, revision).await;
                    tracing::info!(
                        network = %network.name, id = %network.id.short(), driver = %network.driver(), "network created"
                    );
                    return Ok(network);
                }
                Err(CommitError::Refused(refusals)) => {
                    for GuardRefusal { guard, .. } in refusals {
                        if let Guard::Absent(Key::Vni(vni)) = guard
                            && wanted.vni.is_none()
                        {
                            passed_vnis.push(vni);
                        } else if let Guard::Absent(Key::Pool(prefix)) = guard {
                            passed_over.push(prefix);
                        } else {
                            return Err(self.taken(&guard, &network));
                        }
                    }
                }
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Err(ServiceError::Busy(format!(
            "other hosts created networks at the same time ({TRIES} tries): try again"
        )))
    }

    /// Choose what was left open: subnets and VNI.
    fn resolve(&self, wanted: &Wanted, passed_over: &[IpNet], vnis: &[Vni]) -> Result<Network, ServiceError> {
        let mut network = wanted.network.clone();
        self.world.read(|intent| {
            let others: Vec<&Network> = intent.networks().filter_map(|(_, view)| view.network()).collect();
            let mut taken: Vec<IpNet> = passed_over.to_vec();
            taken.extend(others.iter().flat_map(|other| other.subnets.iter().map(|subnet| subnet.prefix)));
            taken.extend(wanted.chosen.iter().map(|subnet| subnet.prefix));
            for v6 in &wanted.automatic {
                let family = if *v6 { "IPv6" } else { "IPv4" };
                let exhausted = || {
                    ServiceError::Exhausted(format!(
                        "no {family} subnet is free in the address pools: choose one with --subnet, or configure more \
                         with --default-address-pool"
                    ))
                };
                let prefix = ipam::pick_subnet(&self.settings.pools, &taken, *v6).ok_or_else(exhausted)?;
                network.subnets.push(ipam::automatic(prefix, SubnetKind::of(&network.settings)).ok_or_else(exhausted)?);
                taken.push(prefix);
            }
            if !network.profile().vxlan {
                return Ok(network);
            }
            let used: BTreeSet<Vni> = others.iter().filter_map(|other| other.vni).chain(vnis.iter().copied()).collect();
            let mut automatic = (Vni::FIRST_AUTOMATIC..=Vni::MAX).filter_map(|number| Vni::new(number).ok());
            let free = wanted.vni.or_else(|| automatic.find(|vni| !used.contains(vni)));
            let none = || ServiceError::Exhausted("every VNI is taken: remove unused networks".into());
            network.vni = Some(free.ok_or_else(none)?);
            Ok(network)
        })
    }

    /// The name or VNI is taken: the error names the holder.
    fn taken(&self, guard: &Guard, network: &Network) -> ServiceError {
        match guard {
            Guard::Absent(Key::Vni(vni)) => {
                let holder = self.world.read(|intent| {
                    let mut all = intent.networks().filter_map(|(_, view)| view.network());
                    all.find(|other| other.vni == Some(*vni)).map(|other| other.name.to_string())
                });
                let holder =
                    holder.map_or_else(|| "another network".into(), |name| format!("network {name}"));
                ServiceError::Exists(format!(
                    "VNI {vni} is taken by {holder}: choose a different one, or leave it out"
                ))
            }
            Guard::Absent(_) | Guard::Present(_) | Guard::Unchanged(..) | Guard::Is(..) => exists(network),
        }
    }

    /// Remove a network that has no endpoints.
    ///
    /// # Errors
    /// Unknown, in use (with the endpoints), the default network, the store away.
    pub async fn remove_network(&self, text: &str) -> Result<(NetworkId, Name), ServiceError> {
        self.ready_to_change().await?;
        // Once and for all: another network may get the name while we try.
        let (id, name) = match self.named(text) {
            Ok(found) => found,
            // It may be newer than what is known here, as its last endpoint's end may be.
            Err(_stale) => {
                self.catch_up().await;
                self.named(text)?
            }
        };
        if self.is_default_bridge(id) {
            return Err(ServiceError::InUse(format!(
                "network {name} is made by the agent: start the agent with --bridge none to have no such \
                 network"
            )));
        }
        self.remove_network_of(id, name).await
    }

    /// Remove a network, which may be the default one.
    pub(super) async fn remove_network_of(
        &self,
        id: NetworkId,
        name: Name,
    ) -> Result<(NetworkId, Name), ServiceError> {
        let scope = self.scope_of(id);
        let _turn: Option<Turn> = match scope {
            Scope::Local => Some(self.turns.wait(Work::Network(id)).await?),
            Scope::Global => None,
        };
        // Of a network of this host alone all is known that there is.
        let mut caught_up = scope == Scope::Local;
        for _ in 0..TRIES {
            let users = self.world.read(|intent| self.users(&name, intent.network(id)?));
            match users {
                Some(users) if caught_up => return Err(ServiceError::InUse(users)),
                Some(_) => {
                    caught_up = true;
                    self.catch_up().await;
                    continue;
                }
                None => {}
            }
            let store = self.store(scope);
            let Some(entry) = store.get(&Key::Network(id).in_scope(scope)).await?.1 else {
                return Ok((id, name));
            };
            // A first endpoint on a node writes the network's record again, and on one host one works at a time, so nobody
            // can slip in after this look.
            let users = match scope {
                Scope::Global => KeyRange::members_of(id),
                Scope::Local => KeyRange::endpoints_of(id).in_scope(scope),
            };
            let users = store.list(&users).await?;
            if let Some(newest) = users.entries.iter().map(|user| user.mod_revision).max() {
                self.hears_of(scope, newest).await;
                continue;
            }
            let commit = self.removal(&Network::from_bytes(&entry.value)?, entry.mod_revision).await?;
            match store.commit(commit).await {
                Ok(revision) => {
                    self.follow_change(scope, revision).await;
                    tracing::info!(network = %name, id = %id.short(), "network removed");
                    return Ok((id, name));
                }
                Err(CommitError::Refused(_)) => {}
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Err(ServiceError::Busy(format!("network {name} keeps getting new endpoints: try again")))
    }

    pub(super) fn named(&self, text: &str) -> Result<(NetworkId, Name), ServiceError> {
        refuse_mode(text)?;
        let found = self
            .world
            .read(|intent| intent.find_network(text).map(|(network, _)| (network.id, network.name.clone())));
        Ok(found?)
    }

    /// The transaction that removes a network, last written at `mod_revision`, with all its reservations.
    async fn removal(&self, network: &Network, mod_revision: i64) -> Result<Commit, ServiceError> {
        let mut commit = removal(network, mod_revision);
        for subnet in network.subnets.iter().filter(|_| network.scope == Scope::Global) {
            // Reserved by this network, or, where this one's was chosen, perhaps by another with the same.
            let pool = Key::Pool(subnet.prefix);
            let holder = self.global.get(&pool).await?.1;
            if holder.is_some_and(|entry| entry.value == network.id.to_string()) {
                commit = commit.delete(pool);
            }
        }
        Ok(commit.in_scope(network.scope))
    }

    /// The error for a network that still has endpoints.
    fn users(&self, network: &Name, view: &NetworkView) -> Option<String> {
        let mut names: Vec<String> =
            view.endpoints().values().map(|endpoint| endpoint.name.to_string()).collect();
        if names.is_empty() {
            return None;
        }
        names.sort();
        let count = names.len();
        let more = if count > 5 { format!(" and {} more", count - 5) } else { String::new() };
        names.truncate(5);
        Some(format!(
            "network {network} has {count} endpoint{}: {}{more}; disconnect {} first (ovctl network disconnect {network} \
             SANDBOX)",
            if count == 1 { "" } else { "s" },
            names.join(", "),
            if count == 1 { "it" } else { "them" },
        ))
    }

    /// Remove every network that has no endpoints, except the default one.
    ///
    /// # Errors
    /// The store away.
    pub async fn prune_networks(&self) -> Result<Vec<Name>, ServiceError> {
        self.ready_to_change().await?;
        let unused: Vec<NetworkId> = self.world.read(|intent| {
            let unused = intent.networks().filter(|(_, view)| view.endpoints().is_empty());
            unused.filter(|(_, view)| view.network().is_some()).map(|(id, _)| *id).collect()
        });
        let mut removed = Vec::new();
        for id in unused.into_iter().filter(|id| !self.is_default_bridge(*id)) {
            match self.remove_network(&id.to_string()).await {
                Ok((_, name)) => removed.push(name),
                // Somebody took it meanwhile, or removed it too.
                Err(ServiceError::InUse(_) | ServiceError::Lookup(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }
}

fn removal(network: &Network, mod_revision: i64) -> Commit {
    let mut commit = Commit::new()
        .unchanged(Key::Network(network.id), mod_revision)
        .delete(Key::Network(network.id))
        .delete(Key::NetworkName(network.name.clone()))
        .delete_range(KeyRange::addresses_of(network.id));
    if let Some(vni) = network.vni {
        commit = commit.delete(Key::Vni(vni));
    }
    commit
}
