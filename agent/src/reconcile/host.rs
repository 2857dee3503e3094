//! The part that all networks of this host share: the rules and settings of the host.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Failures, Peers, ReconcileError, Reconciler,
    check::host_look,
    units::{Done, Plan},
};
use crate::{
    drivers::is_here,
    host::{Forward, HostInput, Underlay, gather, host},
    kernel::Kernel,
    model::{NetworkId, Protocol},
    plan::{
        FORWARDING_V4, HOST_SETTINGS,
        ownership::Unit,
        plan,
        ruleset::{Family, Table},
        state::{Netns, State},
    },
};

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Look at the host's part after an input may have changed. The kernel is not looked at if the desired
    /// state is what was programmed.
    pub(super) async fn host_changed(&mut self) -> Failures {
        let (Ok(input), Some(before)) = (self.host_input().await, self.host.clone()) else {
            return self.full(Unit::Host).await;
        };
        if *before == input {
            return Vec::new();
        }
        let (desired, programmed) = (host(&input), host(&before));
        if self.world.host_in_doubt() || but_table(&desired) != but_table(&programmed) {
            return self.full(Unit::Host).await;
        }
        self.host_leads(&input);
        // If somebody took the table away, this fails or puts all of it there.
        let failures = self.apply(Unit::Host, plan(Unit::Host, &desired, &programmed)).await;
        self.host = failures.is_empty().then(|| Arc::new(input));
        if failures.is_empty() { failures } else { self.full(Unit::Host).await }
    }

    pub(super) async fn look_at_host(&mut self) -> Result<Plan, ReconcileError> {
        let mut input = self.host_input().await?;
        let first = host(&input);
        let settings = first.netns.get(&Netns::Host).map(|state| state.sysctls.clone()).unwrap_or_default();
        let told = input.ip_forward || input.networks.is_empty() || self.told_forwarding;
        let mut look = host_look(&first);
        let at = look.netns.entry(Netns::Host).or_default();
        at.sysctls.extend(HOST_SETTINGS.map(str::to_owned));
        let observed = self.observe(look).await?;
        if let Some(there) = observed.netns.get(&Netns::Host) {
            self.forwarding.saw(there, &settings);
            input.closed = self.closed();
        }
        let desired = host(&input);
        let originals =
            observed.netns.get(&Netns::Host).map(|state| state.sysctls.clone()).unwrap_or_default();
        if !told && originals.get(FORWARDING_V4).is_some_and(|value| value == "0") {
            self.told_forwarding = true;
            tracing::warn!(
                "net.ipv4.ip_forward is 0, and --ip-forward=false keeps it: networks of this host cannot \
                 reach the outside, and their published ports cannot be reached"
            );
        }
        let ops = plan(Unit::Host, &desired, &observed);
        let has_table = observed.netns.get(&Netns::Host).is_some_and(|state| state.table.is_some());
        if has_table && !ops.is_empty() && self.world.host_in_doubt() {
            return Err(ReconcileError::HostInDoubt);
        }
        Ok(Plan { ops, originals, done: Done::Host(input) })
    }

    pub(super) async fn host_input(&mut self) -> Result<HostInput, ReconcileError> {
        let features = self.known_features().await?;
        self.learn_originals().await?;
        let me = self.world.me;
        let here: Vec<NetworkId> = self.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| is_here(view, me));
            here.map(|(id, _)| *id).collect()
        });
        // The rules are by the legs' addresses.
        for id in here {
            self.ensure_leg(id).await?;
        }
        let hidden = self.hidden();
        let mut input = self.world.read(|intent| gather(intent, me, &hidden, &self.legs));
        input.ip_forward = self.settings.ip_forward;
        input.ipv6 = features.ipv6;
        input.bridge_firewall = features.bridge_firewall;
        input.underlay = Some(self.underlay(&input.ports));
        input.closed = self.closed();
        Ok(input)
    }

    /// The families that are forwarded only for our networks. If an operator turned forwarding on, it is left
    /// to the operator.
    fn closed(&self) -> BTreeSet<Family> {
        if self.settings.ip_forward { self.forwarding.closed() } else { BTreeSet::new() }
    }

    /// The agent's ports on the underlay, and who may reach them.
    fn underlay(&self, ports: &[Forward]) -> Underlay {
        let (me, settings) = (self.world.me, &self.settings);
        // A store of the sandboxes' own at the same port is theirs to reach.
        let is_published =
            |tcp: u16| ports.iter().any(|port| port.protocol == Protocol::Tcp && port.host_port == tcp);
        let (vteps, vnis) = self.world.read(|intent| {
            let here = intent.networks().filter(|(_, view)| is_here(view, me));
            let vnis = here.filter_map(|(_, view)| view.network()?.vni).collect();
            (intent.nodes().values().map(|node| node.vtep).chain([settings.vtep]).collect(), vnis)
        });
        Underlay {
            vtep: settings.vtep,
            vxlan_port: settings.vxlan_port,
            gossip_port: settings.gossip_port,
            store_ports: settings.store_ports.iter().copied().filter(|port| !is_published(*port)).collect(),
            vteps,
            vnis,
        }
    }
}

/// The desired state of the host without the table's content; only that content is planned against the
/// programmed state.
fn but_table(desired: &State) -> State {
    let mut desired = desired.clone();
    for table in desired.netns.values_mut().filter_map(|state| state.table.as_mut()) {
        *table = Table::default();
    }
    desired
}
