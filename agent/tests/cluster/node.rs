//! One node: what the agent composes, with a kernel in memory and without a socket for people.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ovagent::{
    convert::Record,
    core::{Core, Parts, Settings},
    dns::HostConf,
    gossip::{Gossip, GossipConfig},
    ipam,
    kernel::{FactLink, Facts, MemoryKernel},
    model::{DnsChoice, Name, Node as NodeRecord, NodeId, Timestamp},
    plan::{
        op::Op,
        ownership::Unit,
        state::{Netns, State},
    },
    reconcile::{
        self, Evidence, Request,
        dirty::Depth,
        world::{Revisions, World},
    },
    service::{self, AttachSpec, Conditions, SandboxSpec, Service, Stores},
    store::{Commit, Embedded, Key, Store, StoreStatus, Tenure, hold},
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test says what it waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long an attach waits for the other nodes.
pub(crate) const ATTACH_DEADLINE: Duration = Duration::from_secs(2);

/// What outlives a node's agent: its host.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) name: Name,
    pub(crate) vtep: IpAddr,
    pub(crate) kernel: Arc<MemoryKernel>,
    pub(crate) local: Embedded,
    run_dir: Arc<tempfile::TempDir>,
}

impl Host {
    pub(crate) fn new(number: u8) -> Self {
        let vtep = IpAddr::from([192, 0, 2, number]);
        let link = FactLink {
            name: "uplink".parse().unwrap(),
            mtu: 1500,
            up: true,
            addresses: vec![format!("{vtep}/24").parse().unwrap()],
        };
        let routes = vec![("192.0.2.0/24".parse().unwrap(), "uplink".parse().unwrap())];
        let kernel = MemoryKernel::new(Facts { links: vec![link], routes });
        kernel.edit(|state| {
            let host = state.netns.entry(Netns::Host).or_default();
            host.sysctls.insert("net/ipv4/ip_forward".into(), "0".into());
            host.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "0".into());
        });
        Self {
            id: NodeId(uuid::Uuid::from_u128(u128::from(number))),
            name: format!("node{number}").parse().unwrap(),
            vtep,
            kernel: Arc::new(kernel),
            local: Embedded::open(None).unwrap(),
            run_dir: Arc::new(tempfile::tempdir().unwrap()),
        }
    }
}

/// A running agent.
pub(crate) struct Node {
    pub(crate) host: Host,
    pub(crate) world: Arc<World>,
    pub(crate) service: Arc<Service<MemoryKernel>>,
    pub(crate) gossip: Gossip,
    pub(crate) address: SocketAddr,
    pub(crate) status: watch::Receiver<StoreStatus>,
    ask: mpsc::Sender<Request>,
    // Dropped with the node: every task ends at once, as with kill -9.
    tasks: JoinSet<()>,
}

impl Node {
    /// Start an agent on a host. `generation` tells it from the one before.
    pub(crate) async fn start(host: Host, global: Store, generation: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (stop, dir) = (CancellationToken::new(), host.run_dir.path());
        let gossip = GossipConfig {
            node: host.id,
            name: host.name.clone(),
            advertise: address,
            vtep: host.vtep,
            version: "0".into(),
            generation,
            seed: generation,
        };
        let reconcile = reconcile::Settings {
            vtep: host.vtep,
            vxlan_port: 4789,
            gossip_port: 7946,
            store_ports: BTreeSet::new(),
            // Events alone must do.
            full_look: Duration::from_secs(3600),
            ip_forward: true,
        };
        let service = service::Settings {
            pools: ipam::default_pools(),
            attach_deadline: ATTACH_DEADLINE,
            run_dir: dir.into(),
            netns_dir: "/run/netns".into(),
            netns_etc_dir: dir.join("etc"),
            dns: DnsChoice::default(),
            host_gateways: Vec::new(),
            default_bridge: None,
        };
        let core = Core::new(Parts {
            kernel: Arc::clone(&host.kernel),
            stores: Stores { global: global.clone(), local: Store::embedded(&host.local) },
            tenure: watch::Sender::new(Tenure::Free).subscribe(),
            evidence: Evidence::default(),
            socket,
            gossip,
            is_down: Arc::new(|_node| false),
            conditions: Conditions::default(),
            host_conf: Arc::new(HostConf::new(&dir.join("resolv.conf"))),
            settings: Settings { reconcile, dns: None, service },
            stop: stop.clone(),
        });
        let Core { world, gossip, requests: ask, store_status: status, service, .. } = core;
        let mut tasks: JoinSet<()> = core.tasks.into_iter().map(|task| task.work).collect();
        tasks.spawn(keep_registered(Arc::clone(&world), global.clone(), record(&host, address)));
        let ttl = Duration::from_secs(60);
        tasks.spawn(hold(global, Key::Alive(host.id), "x".into(), ttl, stop));
        Self { host, world, service, gossip, address, status, ask, tasks }
    }

    /// Kill the agent; the host with its kernel and its local store stays.
    pub(crate) async fn kill(mut self) -> Host {
        self.tasks.shutdown().await;
        self.host
    }

    pub(crate) fn state(&self) -> State {
        self.host.kernel.state()
    }

    /// Make a sandbox without endpoints.
    pub(crate) async fn sandbox(&self, name: &str) {
        let spec = SandboxSpec { name: name.parse().ok(), ..SandboxSpec::default() };
        self.service.create_sandbox(spec).await.unwrap();
    }

    pub(crate) async fn connect(
        &self,
        network: &str,
        sandbox: &str,
    ) -> Result<service::Attached, service::ServiceError> {
        let spec = AttachSpec { network: network.into(), ..AttachSpec::default() };
        self.service.connect(sandbox, &spec).await
    }

    /// Wait until the loop has done everything that the store said up to `revision`.
    pub(crate) async fn caught_up(&self, revision: i64) {
        let at = Revisions { global: revision, local: 0 };
        let done = async {
            self.world.reached(at).await;
            self.world.look_again(Unit::Host, Depth::Full);
            // The host comes first in a round, so whoever asks the loop after this asks after that round.
            self.world.programmed(Unit::Host, at).await;
        };
        let done = tokio::time::timeout(PATIENCE, done).await;
        done.unwrap_or_else(|_elapsed| panic!("{} never got to revision {revision}", self.host.name));
    }

    /// What a full look would do now.
    pub(crate) async fn diff(&self) -> Vec<(Unit, Vec<Op>)> {
        let (tell, told) = oneshot::channel();
        self.ask.send(Request::Diff(tell)).await.unwrap();
        let units = tokio::time::timeout(PATIENCE, told).await.expect("the loop answers").unwrap();
        let ops = units.into_iter().map(|(unit, ops)| (unit, ops.unwrap()));
        ops.filter(|(_, ops)| !ops.is_empty()).collect()
    }
}

fn record(host: &Host, gossip: SocketAddr) -> NodeRecord {
    NodeRecord {
        id: host.id,
        name: host.name.clone(),
        vtep: host.vtep,
        gossip,
        version: "0".into(),
        underlay_mtu: 1500,
        vxlan_port: 4789,
        created: Timestamp(1),
    }
}

/// The node's record is there, again when somebody removes it.
async fn keep_registered(world: Arc<World>, global: Store, record: NodeRecord) {
    let mut changes = world.changes();
    world.reached(Revisions::default()).await;
    loop {
        if world.read(|intent| intent.nodes().get(&record.id) != Some(&record)) {
            let commit = Commit::new().put(Key::Node(record.id), record.to_bytes());
            if let Ok(revision) = global.commit(commit).await {
                world.reached(Revisions { global: revision, local: 0 }).await;
            }
        }
        // Lagging behind is a reason to look, too.
        drop(changes.recv().await);
    }
}
