//! The verbs over a kernel in memory and the embedded store, which holds both key spaces as on a host without etcd.

use std::net::SocketAddr;

use tokio::{net::UdpSocket, sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    gossip::{self, GossipConfig},
    intent::Source,
    kernel::MemoryKernel,
    model::{Name, NodeId, testing::ME},
    reconcile::{Peers, Reconciler, feed::feed},
    store::{Commit, Embedded, Key, KeyRange, StoreStatus, follow},
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Nobody;

impl Peers for Nobody {
    fn is_down(&self, _node: NodeId) -> bool {
        false
    }
    fn applied(&self, _network: NetworkId, _revision: i64) {}
    fn left(&self, _network: NetworkId) {}
}

/// One host's agent without its edges; its tasks end with it.
struct Host {
    service: Arc<Service<MemoryKernel>>,
    kernel: Arc<MemoryKernel>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Host {
    async fn start() -> Self {
        let (stop, dir) = (CancellationToken::new(), tempfile::tempdir().unwrap());
        let (world, mut tasks) = (Arc::new(World::new(ME)), JoinSet::new());
        let store = Store::embedded(&Embedded::open(None).unwrap());
        for (source, range) in [(Source::Global, KeyRange::followed()), (Source::Local, KeyRange::local())] {
            let (out, changes) = mpsc::channel(8);
            let (status, _) = watch::channel(StoreStatus::Starting);
            tasks.spawn(follow(store.clone(), range, out, status, stop.clone()));
            tasks.spawn(feed(Arc::clone(&world), source, changes));
        }
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let advertise: SocketAddr = socket.local_addr().unwrap();
        let config = GossipConfig {
            node: ME,
            name: Name::parse("node name", "here").unwrap(),
            advertise,
            vtep: advertise.ip(),
            version: "0".into(),
            generation: 1,
            seed: 1,
        };
        let (gossip, pump) = gossip::new(socket, config, stop.clone());
        tasks.spawn(pump);
        let kernel = Arc::new(MemoryKernel::default());
        let (ask, asked) = mpsc::channel(8);
        let settings = reconcile::Settings {
            vtep: advertise.ip(),
            vxlan_port: 4789,
            full_look: Duration::from_secs(60),
        };
        let reconciler =
            Reconciler::new(Arc::clone(&kernel), Nobody, Arc::clone(&world), store.clone(), settings);
        // Nobody changes this kernel behind our back.
        let (_tell, seen) = mpsc::channel(1);
        tasks.spawn(reconciler.run(asked, seen, stop.clone()));
        let settings = Settings {
            pools: vec!["10.0.0.0/8,size=24".parse().unwrap()],
            attach_deadline: Duration::from_secs(1),
            run_dir: dir.path().into(),
            netns_dir: "/run/netns".into(),
            netns_etc_dir: dir.path().join("etc"),
            dns: DnsChoice::default(),
            host_gateways: Vec::new(),
            default_bridge: None,
        };
        let parts = (Arc::clone(&kernel), gossip);
        let service = Service::new(world, (store.clone(), store), parts, ask, settings);
        Self { service: Arc::new(service), kernel, stop, _dir: dir, tasks }
    }

    async fn network(&self, name: &str) {
        let spec = NetworkSpec { name: name.into(), ..NetworkSpec::default() };
        self.service.create_network(spec).await.unwrap();
    }

    async fn sandbox(&self, name: &str, network: &str) -> CreatedSandbox {
        let attachments = vec![AttachSpec { network: network.into(), ..AttachSpec::default() }];
        let spec = SandboxSpec { name: name.into(), attachments, ..SandboxSpec::default() };
        self.service.create_sandbox(spec).await.unwrap()
    }

    /// Every key that is left of endpoints and sandboxes.
    async fn left(&self) -> Vec<String> {
        let all = self.service.global.list(&KeyRange::everything()).await.unwrap().entries;
        let keys = all.into_iter().map(|entry| entry.key);
        keys.filter(|key| key.contains("endpoint") || key.contains("sandbox")).collect()
    }

    async fn end(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
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
        while host.service.endpoints_of(&created.endpoints[0].sandbox).len() == 1 {
            changes.recv().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    assert_eq!(host.left().await, [""; 0]);
    host.end().await;
    janitor.await.unwrap();
}
