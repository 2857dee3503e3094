//! One loop over a kernel in memory, fed with facts and asked for its rounds: nothing runs by itself here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{world::World, *};
use crate::{
    convert,
    intent::{Fact, Source},
    kernel::MemoryKernel,
    model::{
        BridgeSettings, Driver, DriverSettings, Endpoint, EndpointId, IfName, IpvlanFlag, IpvlanMode, Mac,
        MacvlanMode, Network, Parent, Sandbox, Scope, Timestamp, testing,
    },
    plan::{
        ownership::Mark,
        state::{Link, LinkKind, Netns, NetnsState, State},
    },
    store::Embedded,
};

mod drivers;
mod gates;
mod hinted;
mod left;
mod ports;
mod routine;
mod rows;
mod sandboxes;

pub(super) const ME: NodeId = testing::ME;

/// A network with the revision up to which it was programmed; None: nothing of it is here.
type Report = (NetworkId, Option<i64>);

/// What the other nodes are told.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Report>>>, Arc<Mutex<BTreeSet<NodeId>>>);

impl Told {
    /// Have gossip take a node for down.
    pub(super) fn down(&self, node: NodeId) {
        self.1.lock().unwrap().insert(node);
    }
}

impl Peers for Told {
    fn is_down(&self, node: NodeId) -> bool {
        self.1.lock().unwrap().contains(&node)
    }
    fn applied(&self, network: NetworkId, revision: i64) {
        self.0.lock().unwrap().push((network, Some(revision)));
    }
    fn left(&self, network: NetworkId) {
        self.0.lock().unwrap().push((network, None));
    }
}

/// A host with one loop.
pub(super) struct Bench {
    pub(super) kernel: Arc<MemoryKernel>,
    pub(super) world: Arc<World>,
    pub(super) told: Told,
    pub(super) reconciler: Reconciler<MemoryKernel, Told>,
    at: i64,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let kernel = MemoryKernel::default();
        kernel.edit(|state| {
            let host = state.netns.entry(Netns::Host).or_default();
            for name in ["eth0", "eth9"] {
                host.links.insert(IfName::literal(name), foreign("nic", 9_000));
            }
            host.sysctls.insert("net/ipv4/ip_forward".into(), "0".into());
            host.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "0".into());
        });
        Self::on(Arc::new(kernel), Vec::new(), true).await
    }

    /// A new agent on a host, with what this node's own store says.
    pub(super) async fn on(kernel: Arc<MemoryKernel>, facts: Vec<Fact>, ip_forward: bool) -> Self {
        let mut bench = Self::unseeing(kernel, facts, ip_forward);
        bench.reconciler.resync().await;
        bench.reconciler.round().await;
        bench
    }

    /// The same before it has looked at anything.
    pub(super) fn unseeing(kernel: Arc<MemoryKernel>, facts: Vec<Fact>, ip_forward: bool) -> Self {
        let (world, told) = (Arc::new(World::new(ME)), Told::default());
        let local = Store::embedded(&Embedded::open(None).unwrap());
        world.feed_snapshot(Source::Global, 1, Vec::new(), &BTreeSet::new());
        world.feed_snapshot(Source::Local, 1, facts, &BTreeSet::new());
        let settings = Settings {
            vtep: "192.0.2.1".parse().unwrap(),
            vxlan_port: 4789,
            gossip_port: 7946,
            store_ports: BTreeSet::new(),
            full_look: Duration::from_secs(3600),
            ip_forward,
        };
        let reconciler =
            Reconciler::new(Arc::clone(&kernel), told.clone(), Arc::clone(&world), local.clone(), settings);
        Self { kernel, world, told, reconciler, at: 1 }
    }

    /// A store says this, and the loop does a round.
    pub(super) async fn say(&mut self, source: Source, facts: Vec<Fact>) {
        self.at += 1;
        self.world.feed(source, self.at, facts);
        self.reconciler.round().await;
    }

    /// This node's own store says this.
    pub(super) async fn here(&mut self, facts: Vec<Fact>) {
        self.say(Source::Local, facts).await;
    }

    pub(super) async fn sandbox(&mut self, name: &str) {
        self.here(vec![Fact::Sandbox(name.parse().unwrap(), Some(sandbox(name)))]).await;
    }

    /// Looks and steps so far.
    pub(super) fn cost(&self) -> (u64, u64) {
        (self.kernel.looked(), self.kernel.applied())
    }

    pub(super) fn failure(&self, unit: Unit) -> Option<String> {
        let outcome = self.world.outcome(unit).expect("it was looked at");
        outcome.failures.first().map(|(_, error)| error.to_string())
    }

    /// A full look at everything finds nothing to do.
    pub(super) async fn check_whole(&mut self) {
        for (unit, steps) in self.reconciler.diff().await {
            assert!(matches!(&steps, Ok(steps) if steps.is_empty()), "{unit:?}: {steps:?}");
        }
    }

    pub(super) fn host(&self) -> NetnsState {
        self.kernel.state().netns.remove(&Netns::Host).unwrap()
    }

    pub(super) fn inside(&self, sandbox: &str) -> BTreeMap<IfName, Link> {
        let netns = Netns::Named(sandbox.parse().unwrap());
        self.kernel.state().netns.remove(&netns).map(|state| state.links).unwrap_or_default()
    }
}

/// What there is, but for settings of the host, which are not taken back.
pub(super) fn but_settings(mut state: State) -> State {
    for netns in state.netns.values_mut() {
        netns.sysctls.clear();
        netns.forward_accepts.clear();
    }
    state
}

pub(super) fn foreign(kind: &str, mtu: u32) -> Link {
    let kind = if kind == "bridge" { LinkKind::Bridge } else { LinkKind::Other(kind.into()) };
    let mac = Mac::internal(1, b"foreign");
    Link { mark: None, ..Link::new(kind, Mark::new(Unit::Host, "x"), mac, mtu) }
}

pub(super) fn sandbox(name: &str) -> Sandbox {
    let mut id = [0; 32];
    id[..name.len()].copy_from_slice(name.as_bytes());
    Sandbox {
        id: SandboxId::from_bytes(id),
        name: name.parse().unwrap(),
        netns: format!("/run/netns/{name}").into(),
        adopted: false,
        process: None,
        netns_inode: 0,
        hostname: name.to_owned(),
        unfinished: false,
        created: Timestamp(1),
        domain: String::new(),
        dns: crate::model::DnsChoice::default(),
        hosts: Vec::new(),
        shares: None,
        left: false,
    }
}

/// A network of this host alone, 172.30.<number>.0/24 and fd00:<number>::/64, with gateways if its driver has them.
pub(super) fn network(number: u8, settings: DriverSettings) -> Network {
    let has_gateway = settings.profile().gateway.is_ok();
    let subnet = |prefix: String, gateway: String| crate::model::Subnet {
        prefix: prefix.parse().unwrap(),
        gateway: has_gateway.then(|| gateway.parse().unwrap()),
        ..testing::network().subnets.remove(0)
    };
    Network {
        id: NetworkId::from_bytes([number; 32]),
        name: format!("net{number}").parse().unwrap(),
        scope: settings.driver().scope(),
        vni: None,
        settings,
        subnets: vec![
            subnet(format!("172.30.{number}.0/24"), format!("172.30.{number}.1")),
            subnet(format!("fd00:{number}::/64"), format!("fd00:{number}::1")),
        ],
        ..testing::network()
    }
}

pub(super) fn bridge(number: u8) -> Network {
    network(number, DriverSettings::Bridge(BridgeSettings::default()))
}

pub(super) const ETH9: Parent = Parent { link: IfName::literal("eth9"), vlan: None };
pub(super) const VLAN: Parent =
    Parent { link: IfName::literal("eth9.10"), vlan: Some((IfName::literal("eth9"), 10)) };

pub(super) fn macvlan(number: u8, parent: Parent) -> Network {
    network(number, DriverSettings::Macvlan(parent, MacvlanMode::Bridge))
}

pub(super) fn ipvlan(number: u8, parent: Parent) -> Network {
    network(number, DriverSettings::Ipvlan(parent, IpvlanMode::L2, IpvlanFlag::Bridge))
}

pub(super) fn p2p(number: u8) -> Network {
    network(number, DriverSettings::P2p)
}

/// A network of each driver whose networks one host has alone, and one on a VLAN. No link is the parent of two kinds.
pub(super) fn local() -> Vec<Network> {
    let parent = |driver| if driver == Driver::Macvlan { "eth9" } else { "eth0" };
    let local = Driver::ALL.into_iter().filter(|driver| driver.scope() == Scope::Local);
    let usual = (2..).zip(local).map(|(number, it)| network(number, convert::usual(it, parent(it))));
    [macvlan(1, VLAN)].into_iter().chain(usual).collect()
}

/// An endpoint of a network by number, in the sandbox of this name.
pub(super) fn endpoint(network: &Network, number: u8, sandbox: &str) -> Endpoint {
    let mut id = [number; 32];
    // In front: names of links have an identifier's first digits.
    id[0] = network.id.as_bytes()[0];
    let addresses = network.subnets.iter().map(|subnet| {
        let host = if subnet.prefix.addr().is_ipv4() { format!("{number}") } else { format!("{number:x}") };
        let start = subnet.prefix.addr().to_string();
        let address = match start.strip_suffix(".0") {
            Some(start) => format!("{start}.{host}"),
            None => format!("{start}{host}"),
        };
        subnet.with_prefix(address.parse().unwrap())
    });
    let addresses: Vec<ipnet::IpNet> = addresses.collect();
    Endpoint {
        id: EndpointId::from_bytes(id),
        name: sandbox.parse().unwrap(),
        network: network.id,
        sandbox: Some(sandbox.parse().unwrap()),
        mac: Mac::derived(addresses[0].addr()),
        // One interface for each network.
        ifname: format!("eth{}", network.id.as_bytes()[0]).parse().unwrap(),
        addresses,
        ..testing::endpoint(2, ME)
    }
}

pub(super) fn there(endpoint: &Endpoint) -> Fact {
    Fact::Endpoint(endpoint.network, endpoint.id, Some(endpoint.clone()))
}

pub(super) fn gone(endpoint: &Endpoint) -> Fact {
    Fact::Endpoint(endpoint.network, endpoint.id, None)
}

pub(super) fn known(network: &Network) -> Fact {
    Fact::Network(network.id, Some(network.clone()))
}

/// The facts by which a node takes part in [`testing::network`].
pub(super) fn overlay() -> Vec<Fact> {
    let network = testing::network();
    let member = testing::member(250, ME);
    vec![known(&network), Fact::Member(network.id, ME, Some(member))]
}

pub(super) fn source_of(network: &Network) -> Source {
    match network.scope {
        Scope::Local => Source::Local,
        Scope::Global => Source::Global,
    }
}
