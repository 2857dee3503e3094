//! What planning a unit depends on besides the intent: the host's links and kernel, the sandboxes that are there, the
//! paths to other hosts, the host legs, and the host's settings as they were before us.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Peers, Reconciler, chain,
    dirty::Row,
    network::{self, Env},
    units::Plan,
};
use crate::{
    kernel::Kernel,
    model::{NetworkId, Sandbox},
    plan::{
        Features, Leg,
        op::Op,
        state::{Look, LookAt, Netns},
    },
    store::{Commit, Key},
};

const FORWARDING_V6: &str = "net/ipv6/conf/all/forwarding";
const BRIDGE_NETFILTER: &str = "net/bridge/bridge-nf-call-iptables";

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// What this host is to a network now. With `rows`, only the sandboxes of those are looked for.
    pub(super) async fn env(&mut self, id: NetworkId, rows: Option<&BTreeSet<Row>>) -> Result<Env, String> {
        let features = self.known_features().await?;
        let me = self.world.me;
        let (sandboxes, hidden) = self.world.read(|intent| {
            let endpoints = intent.network(id).into_iter().flat_map(|view| view.endpoints_on(me));
            let asked = endpoints.filter(|it| rows.is_none_or(|rows| rows.contains(&Row::Endpoint(it.id))));
            let sandboxes: Vec<Sandbox> =
                asked.filter_map(|it| intent.sandboxes().get(&it.sandbox).cloned()).collect();
            let dead =
                intent.nodes().keys().filter(|node| !intent.is_alive(**node) && self.peers.is_down(**node));
            (sandboxes, dead.copied().filter(|node| *node != me).collect())
        });
        let mut present = BTreeMap::new();
        for sandbox in sandboxes {
            if let Some(netns) = self.present(&sandbox).await? {
                present.insert(sandbox.name, netns);
            }
        }
        let mut env = Env {
            me,
            vtep: self.settings.vtep,
            vxlan_port: self.settings.vxlan_port,
            underlay_mtu: self.underlay_mtu,
            paths: BTreeMap::new(),
            features,
            hidden,
            sandboxes: present,
            legs: self.legs.clone(),
        };
        self.learn_paths(&env, id, rows.is_none()).await;
        env.paths.clone_from(&self.paths);
        Ok(env)
    }

    /// The namespace of a sandbox, if it is there.
    pub(super) async fn present(&self, sandbox: &Sandbox) -> Result<Option<Netns>, String> {
        if !sandbox.adopted {
            return Ok(Some(Netns::Named(sandbox.name.clone())));
        }
        let inode = self.kernel.netns_inode(sandbox.netns.clone()).await.map_err(|error| chain(&error))?;
        Ok((inode == Some(sandbox.netns_inode)).then(|| Netns::Path(sandbox.netns.clone())))
    }

    /// The MTU of the paths to a network's other nodes: all anew, or those that are not known yet.
    pub(super) async fn learn_paths(&mut self, env: &Env, id: NetworkId, anew: bool) {
        let vteps = self.world.read(|intent| network::peer_vteps(intent, env, id));
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

    /// Learn what the host has: the underlay's MTU, the kernel's features. What cannot be seen stays as it was known.
    pub(super) async fn refresh_host(&mut self) -> Result<Features, String> {
        let facts = self.kernel.facts().await.map_err(|error| chain(&error))?;
        let sysctls = [FORWARDING_V6, BRIDGE_NETFILTER].map(String::from).into();
        let at = LookAt { links: Some(BTreeSet::new()), sysctls, ..LookAt::default() };
        let seen = self.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
        let vtep = self.settings.vtep;
        match facts.links.iter().find(|link| link.addresses.iter().any(|it| it.addr() == vtep)) {
            Some(link) => self.underlay_mtu = link.mtu,
            None => tracing::warn!(%vtep, "no link of this host has the advertised address"),
        }
        let has = |key| seen.netns.get(&Netns::Host).is_some_and(|host| host.sysctls.contains_key(key));
        let features = Features { bridge_netfilter: has(BRIDGE_NETFILTER), ipv6: has(FORWARDING_V6) };
        self.features = Some(features);
        Ok(features)
    }

    /// What the kernel has. A guess would change what is there and right.
    pub(super) async fn known_features(&mut self) -> Result<Features, String> {
        match self.features {
            Some(features) => Ok(features),
            None => self.refresh_host().await,
        }
    }

    /// A network here that is not internal needs a leg: the lowest index that no other one has, kept in the local store.
    pub(super) async fn ensure_leg(&mut self, id: NetworkId) -> Result<(), String> {
        let needs = self.world.read(|intent| {
            let view = intent.network(id).filter(|view| super::is_here(view, self.world.me));
            view.and_then(|view| view.network()).is_some_and(|network| !network.internal)
        });
        if !needs || self.legs.contains_key(&id) {
            return Ok(());
        }
        let taken: BTreeSet<Leg> = self.legs.values().copied().collect();
        let leg =
            Leg::lowest_free(|leg| taken.contains(&leg)).ok_or("this host has 8192 networks already")?;
        let commit = Commit::new().put(Key::Leg(id), leg.index().to_string());
        self.local.commit(commit).await.map_err(|error| chain(&error))?;
        self.legs.insert(id, leg);
        Ok(())
    }

    pub(super) async fn release_leg(&mut self, id: NetworkId) {
        if self.legs.contains_key(&id) {
            match self.local.commit(Commit::new().delete(Key::Leg(id))).await {
                Ok(_) => {
                    self.legs.remove(&id);
                }
                Err(error) => tracing::warn!(error = chain(&error), "cannot release a host leg"),
            }
        }
    }

    /// Before a setting of the host is changed for the first time, its value goes to the local store, for `cleanup`.
    pub(super) async fn keep_originals(&self, plan: &Plan) -> Result<(), String> {
        for op in &plan.ops {
            if let Op::SetSysctl(Netns::Host, key, _) = op
                && let Some(original) = plan.originals.get(key)
            {
                let name = Key::Sysctl(key.replace('/', "."));
                let known = self.local.get(&name).await.map_err(|error| chain(&error))?.1.is_some();
                if !known {
                    let commit = Commit::new().put(name, original.clone());
                    self.local.commit(commit).await.map_err(|error| chain(&error))?;
                }
                tracing::info!(sysctl = %key.replace('/', "."), was = %original, "set for the networks of this host");
            }
        }
        Ok(())
    }
}
