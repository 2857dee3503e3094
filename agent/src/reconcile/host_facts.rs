//! The inputs of a plan besides the intent: the host's kernel, the existing sandboxes, the paths to other
//! hosts and to the outside, and the host's original settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use super::{Peers, ReconcileError, Reconciler, dirty::Row, units::Plan};
use crate::{
    drivers::{Env, USUAL_MTU, peer_vteps},
    intent::Intent,
    kernel::Kernel,
    model::{NetworkId, NodeId, Sandbox, chain},
    plan::{
        FORWARDING_V6, Features,
        op::{Op, SettingOp},
        state::{Look, LookAt, Netns},
    },
    store::{Commit, Key},
};

/// Addresses for documentation (RFC 5737, RFC 3849): no host has them, so they take the default route.
const OUTSIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
const BRIDGE_NETFILTER: &str = "net/bridge/bridge-nf-call-iptables";
const BRIDGE_NETFILTER_V6: &str = "net/bridge/bridge-nf-call-ip6tables";

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// The current facts of this host for a network. With `rows`, only the sandboxes of those rows are looked
    /// up.
    pub(super) async fn env(
        &mut self,
        id: NetworkId,
        rows: Option<&BTreeSet<Row>>,
    ) -> Result<Env, ReconcileError> {
        let mut env = self.env_as_known(id, rows).await?;
        self.learn_paths(&env, id, rows.is_none()).await;
        env.paths.clone_from(&self.paths);
        Ok(env)
    }

    /// The facts with the known paths to other nodes.
    pub(super) async fn env_as_known(
        &mut self,
        id: NetworkId,
        rows: Option<&BTreeSet<Row>>,
    ) -> Result<Env, ReconcileError> {
        let features = self.known_features().await?;
        let me = self.world.me;
        let sandboxes: Vec<Sandbox> = self.world.read(|intent| {
            let endpoints = intent.network(id).into_iter().flat_map(|view| view.endpoints_on(me));
            let asked = endpoints.filter(|it| rows.is_none_or(|rows| rows.contains(&Row::Endpoint(it.id))));
            asked.filter_map(|it| intent.sandboxes().get(it.sandbox.as_ref()?).cloned()).collect()
        });
        let mut present = BTreeMap::new();
        for sandbox in sandboxes {
            if let Some(netns) = self.present(&sandbox).await? {
                present.insert(sandbox.name, netns);
            }
        }
        let (hidden, paths) = (self.hidden(), self.paths.clone());
        Ok(Env { hidden, sandboxes: present, paths, ..self.bare_env(features) })
    }

    /// The other nodes whose records are hidden: their lease has run out and gossip has them down.
    pub(super) fn hidden(&self) -> BTreeSet<NodeId> {
        let dead = |intent: &Intent, node: NodeId| {
            node != self.world.me && !intent.is_alive(node) && self.peers.is_down(node)
        };
        self.world.read(|intent| intent.nodes().keys().copied().filter(|node| dead(intent, *node)).collect())
    }

    /// The facts that need no look: without sandboxes, dead nodes and paths.
    pub(super) fn bare_env(&self, features: Features) -> Env {
        Env {
            me: self.world.me,
            vtep: self.settings.vtep,
            vxlan_port: self.settings.vxlan_port,
            underlay_mtu: self.underlay_mtu,
            outside_mtu: self.outside_mtu,
            paths: BTreeMap::new(),
            features,
            links: Arc::clone(&self.links),
            hidden: BTreeSet::new(),
            sandboxes: BTreeMap::new(),
            legs: self.legs.clone(),
        }
    }

    /// The namespace of a sandbox, if it exists; for a sandbox that shares one, its owner's.
    pub(super) async fn present(&self, sandbox: &Sandbox) -> Result<Option<Netns>, ReconcileError> {
        let owner = self.world.read(|intent| intent.sandboxes().get(sandbox.shares.as_ref()?).cloned());
        let sandbox = owner.as_ref().unwrap_or(sandbox);
        if !sandbox.adopted {
            return Ok(Some(Netns::Named(sandbox.name.clone())));
        }
        let inode = self.kernel.netns_inode(sandbox.netns.clone()).await?;
        Ok((inode == Some(sandbox.netns_inode)).then(|| Netns::Path(sandbox.netns.clone())))
    }

    /// The MTU of the paths to a network's other nodes: all of them again, or only the unknown ones.
    pub(super) async fn learn_paths(&mut self, env: &Env, id: NetworkId, anew: bool) {
        let vteps = self.world.read(|intent| peer_vteps(intent, env, id));
        for vtep in vteps {
            if !anew && self.paths.contains_key(&vtep) {
                continue;
            }
            match self.kernel.path_mtu(vtep).await {
                Ok(mtu) => {
                    self.paths.insert(vtep, mtu);
                }
                Err(error) => tracing::debug!(%vtep, error = chain(&error), "no path"),
            }
        }
    }

    /// Learn what the host has: the underlay's MTU, the kernel's features. A fact that cannot be read keeps
    /// its last value.
    pub(super) async fn refresh_host(&mut self) -> Result<Features, ReconcileError> {
        let facts = self.kernel.facts().await?;
        let sysctls = [FORWARDING_V6, BRIDGE_NETFILTER, BRIDGE_NETFILTER_V6].map(String::from).into();
        let at = LookAt { links: Some(BTreeSet::new()), sysctls, ..LookAt::default() };
        let observed = self.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
        let vtep = self.settings.vtep;
        match facts.links.iter().find(|link| link.addresses.iter().any(|it| it.addr() == vtep)) {
            Some(link) => self.underlay_mtu = link.mtu,
            None => tracing::warn!(%vtep, "no link of this host has the advertised address"),
        }
        self.outside_mtu = self.way_out().await;
        let value = |key| observed.netns.get(&Netns::Host).and_then(|host| host.sysctls.get(key));
        let is_on = |key| value(key).is_some_and(|value| value != "0");
        let features = Features {
            bridge_netfilter: value(BRIDGE_NETFILTER).is_some(),
            bridge_firewall: is_on(BRIDGE_NETFILTER) && is_on(BRIDGE_NETFILTER_V6),
            ipv6: value(FORWARDING_V6).is_some(),
        };
        self.features = Some(features);
        Ok(features)
    }

    /// The MTU of the path to the outside: that of the default route's link, if there is one.
    async fn way_out(&self) -> u32 {
        for somewhere in OUTSIDE {
            if let Ok(mtu) = self.kernel.path_mtu(somewhere).await {
                return mtu;
            }
        }
        USUAL_MTU
    }

    /// The features of the kernel. They are not guessed: a wrong guess would change a correct state.
    pub(super) async fn known_features(&mut self) -> Result<Features, ReconcileError> {
        match self.features {
            Some(features) => Ok(features),
            None => self.refresh_host().await,
        }
    }

    /// Before a setting of the host is changed for the first time, its value goes to the local store, for `cleanup`.
    pub(super) async fn keep_originals(&self, plan: &Plan) -> Result<(), ReconcileError> {
        for op in &plan.ops {
            if let Op::Setting(Netns::Host, SettingOp::SetSysctl(key, _)) = op
                && let Some(original) = plan.originals.get(key)
            {
                let name = Key::Sysctl(key.replace('/', "."));
                let known = self.local.get(&name).await?.1.is_some();
                if !known {
                    let commit = Commit::new().put(name, original.clone());
                    self.local.commit(commit).await?;
                }
                tracing::info!(
                    sysctl = %key.replace('/', "."), was = %original,
                    "set for the networks of this host"
                );
            }
        }
        Ok(())
    }
}
