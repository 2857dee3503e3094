//! The verbs over a kernel in memory and the embedded store, which holds both key spaces as on a host without etcd.

mod admission;
mod bridge;
mod kinds;
mod local;
mod machine;
mod ports;
mod share;

use std::{collections::BTreeSet, net::SocketAddr};

use tokio::{
    net::UdpSocket,
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    convert,
    core::{Core, Parts as Wiring},
    gossip::GossipConfig,
    kernel::{FactLink, Facts, MemoryKernel},
    model::{Endpoint, Name, Network, testing::ME},
    plan::{
        ownership::{Mark, Unit},
        state::{Link, LinkKind, Netns},
    },
    reconcile::Evidence,
    store::{Commit, Embedded, Key, KeyRange, Tenure},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// The options of an endpoint.
fn options(given: &[(&str, &str)]) -> convert::EndpointOptions {
    let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    convert::parse_endpoint_options(&given).unwrap()
}

/// What outlives an agent: its host.
struct Ground {
    kernel: Arc<MemoryKernel>,
    local: Embedded,
    global: Store,
    dir: Arc<tempfile::TempDir>,
}

/// One host's agent without its edges; its tasks end with it.
struct Host {
    service: Arc<Service<MemoryKernel>>,
    kernel: Arc<MemoryKernel>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    ground: Ground,
}

impl Ground {
    /// A host with a link to the outside, whose embedded store holds both key spaces.
    fn new() -> Self {
        let local = Embedded::open(None).unwrap();
        let global = Store::embedded(&local);
        Self::with_store(local, global)
    }

    fn with_store(local: Embedded, global: Store) -> Self {
        let kernel = Arc::new(MemoryKernel::new(Facts {
            links: [("lo", "127.0.0.1/8"), ("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")]
                .map(|(name, address)| FactLink {
                    name: name.parse().unwrap(),
                    mtu: 1500,
                    up: true,
                    addresses: vec![address.parse().unwrap()],
                })
                .into(),
            routes: vec![("192.0.2.0/24".parse().unwrap(), "eth0".parse().unwrap())],
        }));
        kernel.edit(|state| {
            for name in ["eth0", "eth1"] {
                let mark = Mark::new(Unit::Host, "x");
                let link = Link { mark: None, ..Link::new(LinkKind::Other(String::new()), mark, None, 1500) };
                state.netns.get_mut(&Netns::Host).unwrap().links.insert(name.parse().unwrap(), link);
            }
        });
        Self { kernel, local, global, dir: Arc::new(tempfile::tempdir().unwrap()) }
    }

    /// Start an agent.
    async fn start(self, default_bridge: Option<DefaultBridge>) -> Host {
        let (stop, dir) = (CancellationToken::new(), &self.dir);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let advertise: SocketAddr = socket.local_addr().unwrap();
        let gossip = GossipConfig {
            node: ME,
            name: Name::parse("node name", "here").unwrap(),
            advertise,
            vtep: advertise.ip(),
            version: "0".into(),
            generation: 1,
            seed: 1,
        };
        let reconcile = reconcile::Settings {
            vtep: advertise.ip(),
            vxlan_port: 4789,
            gossip_port: 7946,
            store_ports: BTreeSet::new(),
            full_look: Duration::from_secs(60),
            ip_forward: true,
        };
        let service = Settings {
            pools: vec![
                "10.0.0.0/8,size=24".parse().unwrap(),
                "fd6f:766e:6574::/48,size=64".parse().unwrap(),
            ],
            attach_deadline: Duration::from_secs(1),
            run_dir: dir.path().into(),
            netns_dir: "/run/netns".into(),
            netns_etc_dir: dir.path().join("etc"),
            dns: DnsChoice::default(),
            host_gateways: Vec::new(),
            default_bridge,
        };
        let core = Core::new(Wiring {
            kernel: Arc::clone(&self.kernel),
            stores: Stores { global: self.global.clone(), local: Store::embedded(&self.local) },
            tenure: watch::Sender::new(Tenure::Free).subscribe(),
            evidence: Evidence::default(),
            socket,
            gossip,
            is_down: Arc::new(|_node| false),
            conditions: Conditions::default(),
            host_conf: Arc::new(HostConf::new(&dir.path().join("resolv.conf"))),
            settings: crate::core::Settings { reconcile, dns: None, service },
            stop: stop.clone(),
        });
        let tasks = core.tasks.into_iter().map(|task| task.work).collect();
        Host { service: core.service, kernel: Arc::clone(&self.kernel), stop, tasks, ground: self }
    }
}

impl Host {
    async fn start() -> Self {
        Ground::new().start(None).await
    }

    async fn network(&self, name: &str) {
        let request = NetworkRequest { name: name.into(), ..NetworkRequest::default() };
        self.service.create_network(request.parse().unwrap()).await.unwrap();
    }

    async fn sandbox(&self, name: &str, network: &str) -> CreatedSandbox {
        let attachments = vec![AttachSpec { network: network.into(), ..AttachSpec::default() }];
        let spec = SandboxSpec { name: name.parse().ok(), attachments, ..SandboxSpec::default() };
        self.service.create_sandbox(spec).await.unwrap()
    }

    /// Run the janitor until the host is stopped.
    fn janitor(&self) -> JoinHandle<()> {
        let (service, stop) = (Arc::clone(&self.service), self.stop.clone());
        tokio::spawn(async move { service.tidy_sandboxes(stop).await })
    }

    /// Wait until no sandbox is known any more.
    async fn until_no_sandboxes(&self) {
        let mut changes = self.service.world.changes();
        let gone = async {
            while self.service.world.read(|intent| !intent.sandboxes().is_empty()) {
                changes.recv().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    /// Every key that is left of endpoints and sandboxes, in either store.
    async fn left(&self) -> Vec<String> {
        let (global, local) = (self.keys(Scope::Global).await, self.keys(Scope::Local).await);
        let all = global.into_iter().chain(local);
        all.filter(|key| key.contains("endpoint") || key.contains("sandbox")).collect()
    }

    /// Make a network of a driver, with options.
    async fn make(
        &self,
        (driver, name): (&str, &str),
        options: &[(&str, &str)],
        change: impl FnOnce(&mut NetworkRequest),
    ) -> Result<Network, ServiceError> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut request =
            NetworkRequest { name: name.into(), driver: driver.into(), options, ..NetworkRequest::default() };
        change(&mut request);
        self.service.create_network(request.parse()?).await
    }

    /// Make a sandbox without endpoints.
    async fn empty(&self, name: &str) {
        let spec = SandboxSpec { name: name.parse().ok(), ..SandboxSpec::default() };
        self.service.create_sandbox(spec).await.unwrap();
    }

    async fn connect(
        &self,
        (sandbox, network): (&str, &str),
        change: impl FnOnce(&mut AttachSpec),
    ) -> Result<Endpoint, ServiceError> {
        let mut spec = AttachSpec { network: network.into(), ..AttachSpec::default() };
        change(&mut spec);
        Ok(self.service.connect(sandbox, &spec).await?.endpoint)
    }

    /// Every key of the local store, or of the cluster's.
    async fn keys(&self, scope: Scope) -> Vec<String> {
        let range = match scope {
            Scope::Global => KeyRange::everything(),
            Scope::Local => KeyRange::local(),
        };
        let all = self.service.store(scope).list(&range).await.unwrap().entries;
        all.into_iter().map(|entry| entry.key).collect()
    }

    async fn end(mut self) -> Ground {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.ground
    }
}

/// The sentence of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, ServiceError>) -> String {
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_removed_goes_at_once_although_keys_that_nobody_follows_have_changed() {
    let host = Host::start().await;
    host.network("net").await;
    host.sandbox("box", "net").await;
    // As when a setting of the host is noted for the cleanup.
    let other = Commit::new().put(Key::Sysctl("net.ipv4.ip_forward".into()), "0");
    host.service.local.commit(other).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        host.service.remove_sandbox("box", false).await.unwrap();
        host.service.remove_network("net").await.unwrap();
    })
    .await
    .unwrap();
    assert_eq!(host.left().await, [""; 0]);
    assert_eq!(host.kernel.state().netns.len(), 1, "the host's own namespace is left");
    host.end().await;
}

#[tokio::test]
async fn the_janitor_removes_an_endpoint_whose_sandbox_was_lost() {
    let host = Host::start().await;
    host.network("net").await;
    let created = host.sandbox("box", "net").await;
    // As when the store took an attach, but the answer was lost and the sandbox taken back.
    host.service.local.commit(Commit::new().delete(Key::Sandbox(created.sandbox.name))).await.unwrap();
    let service = Arc::clone(&host.service);
    let stop = host.stop.clone();
    let janitor = tokio::spawn(async move { service.tidy_sandboxes(stop).await });
    let mut changes = host.service.world.changes();
    let gone = async {
        while host.service.endpoints_of(created.endpoints[0].sandbox.as_ref().unwrap()).len() == 1 {
            changes.recv().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(host.left().await, [""; 0]);
    host.end().await;
    janitor.await.unwrap();
}
