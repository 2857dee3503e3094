//! `network disconnect`, and the removal of an endpoint's records.

use std::sync::Arc;

use super::super::{FOLLOW_DEADLINE, LOCAL_DEADLINE, Service, ServiceError, TRIES, at, locks::to_the_end};
use crate::{
    convert::Record,
    kernel::Kernel,
    model::{Endpoint, Member, Name, NodeId, Scope},
    plan::ownership::Unit,
    reconcile::world::Revisions,
    store::{Commit, CommitError, Key, KeyRange},
};

impl<K: Kernel> Service<K> {
    /// Disconnect a sandbox of this node from a network. With `force`, an endpoint of any node, by the
    /// endpoint's name: for endpoints that a dead node left behind.
    ///
    /// # Errors
    /// Unknown network or sandbox, not connected, the store away.
    pub async fn disconnect(
        self: &Arc<Self>,
        network: &str,
        sandbox: &str,
        force: bool,
    ) -> Result<(), ServiceError> {
        let (service, network, sandbox) = (Arc::clone(self), network.to_owned(), sandbox.to_owned());
        to_the_end(async move {
            service.ready_to_change().await?;
            let known = match service.own_endpoint(&network, &sandbox, force) {
                Ok(endpoint) => endpoint,
                // It may be newer than what is known here.
                Err(_stale) => {
                    service.catch_up().await;
                    service.own_endpoint(&network, &sandbox, force)?
                }
            };
            // One that was made ahead of its sandbox has a name of its own.
            let known = known.sandbox.unwrap_or(known.name);
            let _turn = service.turns.take(&known).await?;
            // It may be another one by now, or none.
            let endpoint = service.own_endpoint(&network, known.as_str(), force)?;
            service.remove_endpoint(&endpoint).await?;
            if let Some(sandbox) = &endpoint.sandbox {
                service.write_files(sandbox).await;
            }
            tracing::info!(
                name = %endpoint.name, %network, endpoint = %endpoint.id.short(), force,
                "disconnected"
            );
            Ok(())
        })
        .await
    }

    /// The endpoint that a sandbox of this node has in a network; with `force`, one of any node, by its name.
    fn own_endpoint(&self, network: &str, sandbox: &str, force: bool) -> Result<Endpoint, ServiceError> {
        self.world.read(|intent| {
            let (network, view) = intent.find_network(network)?;
            let here = intent.find_sandbox(sandbox);
            let name = here.as_ref().map_or(sandbox, |sandbox| sandbox.name.as_str());
            let named = name.parse().ok().and_then(|name: Name| view.endpoint_named(&name));
            let found = named.or_else(|| view.endpoints().get(&name.parse().ok()?));
            match (found, here) {
                (Some(endpoint), _) if endpoint.node == self.world.me || force => Ok(endpoint.clone()),
                (Some(endpoint), _) => {
                    let node = intent.nodes().get(&endpoint.node);
                    let node = node.map_or_else(|| endpoint.node.to_string(), |node| node.name.to_string());
                    Err(ServiceError::InUse(format!(
                        "endpoint {} of network {} is on node {node}: disconnect it there, or use --force if that node \
                         is gone for good",
                        endpoint.name, network.name
                    )))
                }
                (None, Ok(sandbox)) => Err(ServiceError::InUse(format!(
                    "sandbox {} is not connected to network {}",
                    sandbox.name, network.name
                ))),
                (None, Err(error)) => Err(error.into()),
            }
        })
    }

    /// Remove an endpoint's records in one transaction, with its node's membership if it was the last one
    /// there, and wait until this host has followed.
    pub(in crate::service) async fn remove_endpoint(&self, endpoint: &Endpoint) -> Result<(), ServiceError> {
        let scope = self.scope_of(endpoint.network);
        if endpoint.node == self.world.me {
            self.world.expect_removal(endpoint.id);
        }
        for _ in 0..TRIES {
            let mut commit = deletion(endpoint);
            if scope == Scope::Global {
                commit = self.with_member(endpoint, commit).await?;
            }
            match self.store(scope).commit(commit.in_scope(scope)).await {
                Ok(revision) => {
                    self.follow_removal(endpoint, at(scope, revision)).await;
                    return Ok(());
                }
                Err(CommitError::Refused(_)) => {
                    let key = Key::Endpoint(endpoint.network, endpoint.id).in_scope(scope);
                    if self.store(scope).get(&key).await?.1.is_none() {
                        return Ok(());
                    }
                }
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Err(ServiceError::Busy(format!(
            "endpoint {} could not be removed in {TRIES} tries: try again",
            endpoint.name
        )))
    }

    /// The removal, with the change to its node's membership.
    async fn with_member(&self, endpoint: &Endpoint, commit: Commit) -> Result<Commit, ServiceError> {
        let key = Key::Member(endpoint.network, endpoint.node);
        let Some(entry) = self.global.get(&key).await?.1 else { return Ok(commit) };
        // Whether others are left is decided on what is known at that revision, and held by the guard: whoever comes or
        // goes on that node writes this key.
        let others = self.others(endpoint, entry.mod_revision).await?;
        let commit = commit.unchanged(key.clone(), entry.mod_revision);
        Ok(match others {
            0 => leave(commit, &Member::from_bytes(&entry.value)?),
            _ => commit.put(key, entry.value),
        })
    }

    /// The number of other endpoints of its node in the network, at `revision` or later.
    async fn others(&self, endpoint: &Endpoint, revision: i64) -> Result<usize, ServiceError> {
        let other = |it: &Endpoint| it.node == endpoint.node && it.id != endpoint.id;
        if self.hears_of(Scope::Global, revision).await {
            return Ok(self.world.read(|intent| {
                let view = intent.network(endpoint.network);
                view.map_or(0, |view| view.endpoints_on(endpoint.node).filter(|it| other(it)).count())
            }));
        }
        // The follower is away, the store is not.
        let listing = self.global.list(&KeyRange::endpoints_of(endpoint.network)).await?;
        let endpoints = listing.entries.iter().map(|entry| Endpoint::from_bytes(&entry.value));
        Ok(endpoints.collect::<Result<Vec<_>, _>>()?.iter().filter(|it| other(it)).count())
    }

    async fn follow_removal(&self, endpoint: &Endpoint, at: Revisions) {
        if endpoint.node != self.world.me {
            if tokio::time::timeout(FOLLOW_DEADLINE, self.world.reached(at)).await.is_err() {
                tracing::warn!(?at, "the store accepted a removal, but its watch has not delivered it");
            }
            return;
        }
        let done = async {
            self.world.programmed(Unit::Network(endpoint.network), at).await;
            if !endpoint.ports.is_empty() {
                self.world.programmed(Unit::Host, at).await;
            }
        };
        if tokio::time::timeout(LOCAL_DEADLINE, done).await.is_err() {
            tracing::warn!(
                endpoint = %endpoint.id.short(),
                "removed from the store, but not yet from this host"
            );
        }
    }

    /// Remove all that a node has in every network.
    pub(in crate::service) async fn remove_endpoints_of(&self, node: NodeId) -> Result<u32, ServiceError> {
        let endpoints: Vec<Endpoint> = self.world.read(|intent| {
            intent.networks().flat_map(|(_, view)| view.endpoints_on(node).cloned()).collect()
        });
        let mut removed = 0;
        for endpoint in endpoints {
            self.remove_endpoint(&endpoint).await?;
            removed += 1;
        }
        Ok(removed)
    }
}

fn deletion(endpoint: &Endpoint) -> Commit {
    let key = Key::Endpoint(endpoint.network, endpoint.id);
    let mut commit = Commit::new()
        .present(key.clone())
        .delete(key)
        .delete(Key::EndpointName(endpoint.network, endpoint.name.clone()))
        .delete(Key::Mac(endpoint.network, endpoint.mac));
    let addresses = endpoint.addresses.iter().map(ipnet::IpNet::addr);
    for address in addresses.chain(endpoint.link_local.iter().copied()) {
        commit = commit.delete(Key::Address(endpoint.network, address));
    }
    commit
}

fn leave(mut commit: Commit, member: &Member) -> Commit {
    for address in &member.addresses {
        commit = commit.delete(Key::Address(member.network, address.addr()));
    }
    commit.delete(Key::Mac(member.network, member.mac)).delete(Key::Member(member.network, member.node))
}
