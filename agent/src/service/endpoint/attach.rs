//! `network connect`: an endpoint, committed in one transaction, programmed here and confirmed by the other hosts.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use super::{
    super::{LOCAL_DEADLINE, Service, ServiceError, at, locks::to_the_end, network::refuse_mode},
    AttachSpec, Attached,
    allocate::Claimed,
    draft::Draft,
    reservations::Reserved,
};
use crate::{
    kernel::Kernel,
    model::{Endpoint, IfName, InHost, Name, NodeId, Sandbox, Scope, chain},
    plan::{
        ownership::Unit,
        state::{Look, LookAt, Netns},
    },
    reconcile::world::{Outcome, Revisions},
};

impl<K: Kernel> Service<K> {
    /// Connect a sandbox of this node to a network. Returns when this host and every live host of the network
    /// have programmed the endpoint, or at the deadline, with the hosts that did not confirm.
    ///
    /// # Errors
    /// Bad input, a taken address, no address left, the sandbox gone, the store away, a refusal of the
    /// kernel. A failed attach leaves nothing behind.
    pub async fn connect(
        self: &Arc<Self>,
        sandbox: &str,
        spec: &AttachSpec,
    ) -> Result<Attached, ServiceError> {
        let (service, sandbox, spec) = (Arc::clone(self), sandbox.to_owned(), spec.clone());
        to_the_end(async move {
            refuse_mode(&spec.network)?;
            service.ready_to_change().await?;
            let name =
                service.world.read(|intent| intent.find_sandbox(&sandbox).map(|it| it.name.clone()))?;
            // Without it two attaches choose the same interface, or one of them a sandbox that another verb removes.
            let _turn = service.turns.take(&name).await?;
            service.attach(&name, &spec).await
        })
        .await
    }

    /// As [`Service::connect`], for a caller that holds the sandbox's turn.
    pub(in crate::service) async fn attach(
        self: &Arc<Self>,
        sandbox: &Name,
        spec: &AttachSpec,
    ) -> Result<Attached, ServiceError> {
        let sandbox = self.world.read(|intent| intent.find_sandbox(sandbox.as_str()).cloned())?;
        refuse_without_namespace(&sandbox)?;
        self.check_present(&sandbox).await?;
        let interfaces = self.interfaces(&sandbox).await?;
        let Claimed { draft, revision, reserved } = self.commit_endpoint(&sandbox, spec, interfaces).await?;
        match self.await_endpoint(&draft, revision, reserved).await {
            Ok(unconfirmed) => {
                self.write_files(&sandbox.name).await;
                tracing::info!(
                    sandbox = %sandbox.name, network = %draft.network.name, endpoint = %draft.endpoint.id.short(),
                    addresses = ?draft.endpoint.addresses, unconfirmed = unconfirmed.len(), "connected"
                );
                Ok(Attached { endpoint: draft.endpoint, unconfirmed })
            }
            Err(error) => {
                self.roll_back(&draft.endpoint).await;
                Err(error)
            }
        }
    }

    /// Wait for this host, which must succeed, and for the others, which have until the deadline.
    async fn await_endpoint(
        &self,
        draft: &Draft,
        revision: i64,
        reserved: Reserved<'_>,
    ) -> Result<Vec<String>, ServiceError> {
        let endpoint = &draft.endpoint;
        let at = at(draft.network.scope, revision);
        let heard = tokio::time::timeout(LOCAL_DEADLINE, self.world.reached(at)).await;
        drop(reserved);
        if heard.is_err() {
            return Err(ServiceError::StoreAway(
                "the store accepted the endpoint but its watch did not deliver it in time; the endpoint was rolled back".into(),
            ));
        }
        let confirm = async {
            match draft.network.scope {
                Scope::Local => BTreeSet::new(),
                Scope::Global => {
                    let others = self.live_members(endpoint);
                    self.gossip
                        .confirm(endpoint.network, revision, others, self.settings.attach_deadline)
                        .await
                }
            }
        };
        let here = async {
            let looked = self.world.programmed(Unit::Network(endpoint.network), at);
            let outcome = tokio::time::timeout(LOCAL_DEADLINE, looked).await.map_err(|_elapsed| {
                ServiceError::Kernel("this host's kernel did not answer in time".into())
            })?;
            refuse_failures(&outcome)?;
            refuse_failures(&self.host_outcome(draft, at).await)
        };
        // What fails here is not kept waiting by what cannot come.
        let both = async { tokio::try_join!(here, self.await_resolver(endpoint.sandbox.as_ref())) };
        let (missing, done) = tokio::join!(confirm, both);
        done?;
        Ok(self.world.read(|intent| missing.iter().map(|node| intent.called(*node)).collect()))
    }

    /// Wait until names resolve in a sandbox, if there is a sandbox and it has a resolver.
    async fn await_resolver(&self, sandbox: Option<&Name>) -> Result<(), ServiceError> {
        let Some(sandbox) = sandbox else { return Ok(()) };
        let told = |reason: &str| format!("sandbox {sandbox} cannot resolve names: {reason}");
        match tokio::time::timeout(LOCAL_DEADLINE, self.dns.ensure(sandbox)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ServiceError::unresolved(&error, told(&chain(&error)))),
            Err(_elapsed) => {
                let id = self.world.read(|intent| intent.sandboxes().get(sandbox).map(|known| known.id));
                let outcome = id.and_then(|id| self.world.outcome(Unit::Sandbox(id))).unwrap_or_default();
                Err(match outcome.failures.first() {
                    Some((_, error)) => ServiceError::failed(error, told(&chain(error))),
                    None => ServiceError::Kernel(told("its rules were not set in time")),
                })
            }
        }
    }

    /// The outcome of the host's own part (settings and rules), which networks with a link in the host need.
    async fn host_outcome(&self, draft: &Draft, at: Revisions) -> Outcome {
        let link = match draft.network.profile().in_host {
            InHost::Leg => !draft.network.internal,
            // An internal one has rules that keep it so.
            InHost::Bridge => true,
            InHost::Parent | InHost::Nothing => false,
        };
        if !link {
            return Outcome::default();
        }
        if draft.first || !draft.endpoint.ports.is_empty() {
            // The endpoint brings the look about; it is over by now, or nearly so.
            let looked = self.world.programmed(Unit::Host, at);
            if let Ok(outcome) = tokio::time::timeout(LOCAL_DEADLINE, looked).await {
                return outcome;
            }
        }
        self.world.outcome(Unit::Host).unwrap_or_default()
    }

    /// The other nodes of a network that are alive, by gossip or by their lease, with the gossip addresses of
    /// their records. Addresses from gossip itself are not trusted.
    fn live_members(&self, endpoint: &Endpoint) -> Vec<(NodeId, SocketAddr)> {
        let members = self.gossip.members().borrow().clone();
        self.world.read(|intent| {
            let nodes = intent.network(endpoint.network).map(|view| view.members().keys().copied());
            let others = nodes.into_iter().flatten().filter(|node| *node != self.world.me);
            let heard = |node: &NodeId| members.get(node).is_some_and(|member| member.state.is_active());
            // One that lives and that gossip does not reach is named, since it does not confirm.
            let alive = others.filter(|node| heard(node) || intent.is_alive(*node));
            alive.filter_map(|node| Some((node, intent.nodes().get(&node)?.gossip))).collect()
        })
    }

    /// Checks that the sandbox's namespace exists and was not replaced.
    pub(in crate::service) async fn check_present(&self, sandbox: &Sandbox) -> Result<(), ServiceError> {
        if self.is_present(sandbox).await? {
            return Ok(());
        }
        let gone = match sandbox.process {
            Some((pid, _)) => format!("process {pid}, which it was adopted from, has ended"),
            None => format!("the network namespace {} does not exist any more", sandbox.netns.display()),
        };
        Err(ServiceError::InUse(format!(
            "sandbox {name} is gone: {gone}; remove it with ovctl sandbox rm {name}",
            name = sandbox.name
        )))
    }

    /// Interfaces of an adopted sandbox, which may have some that are not ours.
    async fn interfaces(&self, sandbox: &Sandbox) -> Result<BTreeSet<IfName>, ServiceError> {
        if !sandbox.adopted {
            return Ok(BTreeSet::new());
        }
        let netns = Netns::Path(sandbox.netns.clone());
        let look = Look { netns: [(netns.clone(), LookAt { links: None, ..LookAt::default() })].into() };
        let mut seen = self.kernel.observe(look).await?;
        Ok(seen.netns.remove(&netns).map(|state| state.links.into_keys().collect()).unwrap_or_default())
    }
}

/// A sandbox without its own namespace, or one that was removed, gets no endpoints.
fn refuse_without_namespace(sandbox: &Sandbox) -> Result<(), ServiceError> {
    let name = &sandbox.name;
    match &sandbox.shares {
        Some(owner) => Err(ServiceError::InUse(format!(
            "sandbox {name} shares the network namespace of {owner}: connect {owner} instead"
        ))),
        None if sandbox.left => Err(ServiceError::InUse(format!(
            "sandbox {name} was removed, and exists only for the sandboxes that share its network namespace"
        ))),
        None => Ok(()),
    }
}

/// An endpoint does not work if its network could not be applied on this host.
fn refuse_failures(outcome: &Outcome) -> Result<(), ServiceError> {
    match outcome.failures.first() {
        None => Ok(()),
        Some((Some(step), error)) => {
            Err(ServiceError::failed(error, format!("this host cannot {step}: {}", chain(error))))
        }
        Some((None, error)) => {
            let text = format!("cannot read the state of this host: {}", chain(error));
            Err(ServiceError::failed(error, text))
        }
    }
}
