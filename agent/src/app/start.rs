//! Starting: every part in order, each with an error that says what to do.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    net::{UdpSocket, UnixListener, lookup_host},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::UnixListenerStream;

use super::{
    NAMES_FILE, NETNS_DIR_NOTE,
    claim::{Host, undisputed, watch_tenure},
    identity,
    liveness::{self, Dead, GossipPeers},
    lock, register, server,
    stores::{self, Stores},
    surroundings,
    tasks::Tasks,
};
use crate::{
    api::{About, Api},
    config::{BridgeConfig, BridgeLink, Config, HostPort, StoreConfig},
    dns::{self, Dns, HostConf},
    gossip::{self, Gossip, GossipConfig},
    intent::Source,
    kernel::{self, Kernel, LinuxKernel, Seen, port},
    model::Node,
    reconcile::{
        Reconciler, Settings, chain,
        feed::feed,
        world::{Revisions, World},
    },
    service::{self, DefaultBridge, Notices, Service},
    store::{Claim, Key, KeyRange, StoreStatus, Tenure, follow, hold_claim},
};

/// Time between two full looks at everything.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// How long the start waits for the stores before it says that it is ready all the same.
const STORES: Duration = Duration::from_secs(10);
/// How long it then waits for the first look at everything; with the former less than the unit's TimeoutStartSec.
const FIRST_LOOK: Duration = Duration::from_secs(60);
/// How long gossip waits for the store to say whether this node's id is another's.
const TENURE: Duration = Duration::from_secs(2);
/// Pause after the watch of the kernel has ended.
const WATCH_AGAIN: Duration = Duration::from_secs(5);
/// First pause before the network `bridge` is tried again.
const BRIDGE_AGAIN: Duration = Duration::from_secs(2);
/// Whom this host asks for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Changes that wait to be taken in; a full queue holds the store back.
const QUEUE: usize = 64;

/// Start, say so, and run until stopped.
pub(super) async fn run(config: Config) -> Result<()> {
    let _lock = lock::take(&config.state_dir)?;
    let id = identity::node_id(&config.state_dir)?;
    let name = identity::node_name(config.node_name.clone())?;
    let kernel = Arc::new(LinuxKernel::new(&config.netns_dir).naming_in(config.mount_namespace.clone()));
    let facts = kernel.facts().await.context("cannot look at this host's links")?;
    let vtep = identity::advertised(config.advertise, &facts)?;
    let node = Node {
        id,
        name: name.clone(),
        vtep,
        gossip: SocketAddr::new(vtep, config.gossip_port),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        underlay_mtu: facts
            .links
            .iter()
            .find(|link| link.addresses.iter().any(|own| own.addr() == vtep))
            .map_or(1500, |link| link.mtu),
        vxlan_port: config.vxlan_port,
        created: service::now(),
    };
    kernel.check_naming().await?;
    note_netns_dir(&config)?;
    let stores = stores::open(&config).await?;
    let socket = bind_gossip(vtep, config.gossip_port).await?;
    let api = server::listen(&config.run_dir, config.api_group.as_deref()).await?;
    let files = config.run_dir.join("sandboxes");
    std::fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
    let mut tasks = Tasks::new();
    let (held, tenure) = watch::channel(Tenure::default());
    let gossip = start_gossip(&mut tasks, socket, &node, tenure.clone());
    let claim = claim_on(&node, &config)?;
    let parts = Parts { config, kernel, stores, gossip, node, claim: (held, claim) };
    let world = start_tasks(&mut tasks, parts, api);
    announce(&mut tasks, (world, tenure), name.to_string(), vtep);
    let ended = tasks.until_stopped().await;
    tracing::info!("stopped; what is in the kernel stays");
    ended
}

/// Leave a note, for `cleanup`, if the netns directory is going to be made by us.
fn note_netns_dir(config: &Config) -> Result<()> {
    let note = config.state_dir.join(NETNS_DIR_NOTE);
    if config.netns_dir.exists() || note.exists() {
        return Ok(());
    }
    std::fs::write(&note, "").with_context(|| format!("cannot write {}", note.display()))
}

struct Parts {
    config: Config,
    kernel: Arc<LinuxKernel>,
    stores: Stores,
    gossip: Gossip,
    node: Node,
    /// Its hold on its id, and where it is told how that stands.
    claim: (watch::Sender<Tenure>, Claim),
}

/// This node's claim on its id.
fn claim_on(node: &Node, config: &Config) -> Result<Claim> {
    let host = Host::new(Some(node.vtep))?;
    let value = host.to_string().into();
    // A store of this host's own has nobody else's words under this node's id.
    let alone = !matches!(config.store, StoreConfig::Etcd(_));
    let ours = Box::new(move |value: &[u8]| alone || host.is_ours(value));
    Ok(Claim { key: Key::Alive(node.id), value, ttl: config.lease_ttl, ours })
}

async fn bind_gossip(vtep: std::net::IpAddr, udp: u16) -> Result<UdpSocket> {
    match UdpSocket::bind((vtep, udp)).await {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("cannot gossip: {}", port::in_use("udp", udp, "--gossip-port"))
        }
        Err(error) => Err(error).with_context(|| format!("cannot gossip on {vtep} UDP port {udp}")),
    }
}

fn start_gossip(
    tasks: &mut Tasks,
    socket: UdpSocket,
    node: &Node,
    mut tenure: watch::Receiver<Tenure>,
) -> Gossip {
    let config = GossipConfig {
        node: node.id,
        name: node.name.clone(),
        advertise: node.gossip,
        vtep: node.vtep,
        version: node.version.clone(),
        generation: service::now().0,
        seed: rand::random(),
    };
    let (gossip, pump) = gossip::new(socket, config, tasks.stop.clone());
    let stop = tasks.stop.clone();
    tasks.run("gossip", async move {
        // Nobody is to hear of a second node with the id of another. A store that is away says nothing of that.
        let known =
            tokio::time::timeout(TENURE, tenure.wait_for(|now| *now != Tenure::Pending)).await.is_ok();
        if !known || undisputed(&mut tenure, &stop).await {
            pump.await;
        }
    });
    gossip
}

fn start_tasks(tasks: &mut Tasks, parts: Parts, api: UnixListener) -> Arc<World> {
    let Parts { config, kernel, stores, gossip, node, claim } = parts;
    let world = Arc::new(World::new(node.id));
    let tenure = claim.0.subscribe();
    let status = follow_both(tasks, &world, &stores, &tenure);
    keep_registered(tasks, &world, &stores, (&gossip, &node), claim);
    let notices = Notices::default();
    let whose = (node.id, stores.global.clone(), config.state_dir.as_path().into());
    tasks.run("node id watch", watch_tenure(whose, tenure, notices.clone(), tasks.stop.clone()));
    tasks.run("join", join(gossip.clone(), config.join.clone(), tasks.stop.clone()));
    let surroundings = surroundings::Watch {
        world: Arc::clone(&world),
        gossip: gossip.clone(),
        notices: notices.clone(),
        node: node.clone(),
        kernel: Arc::clone(&kernel),
        netns_dir: config.netns_dir.clone(),
        lease_ttl: config.lease_ttl,
    };
    tasks.run("surroundings", surroundings.run(tasks.stop.clone()));
    let dead = Dead::default();
    tasks.run(
        "liveness watch",
        liveness::watch(dead.clone(), Arc::clone(&world), gossip.clone(), tasks.stop.clone()),
    );

    let host_conf = Arc::new(HostConf::new(Path::new(RESOLV_CONF)));
    let resolvers = start_resolvers(tasks, &world, (&dead, &host_conf), &config);

    let (ask, asked) = mpsc::channel(QUEUE);
    let peers = GossipPeers { gossip: gossip.clone(), dead };
    let settings = Settings {
        vtep: node.vtep,
        vxlan_port: config.vxlan_port,
        full_look: FULL_LOOK,
        ip_forward: config.ip_forward,
    };
    let reconciler =
        Reconciler::new(Arc::clone(&kernel), peers, Arc::clone(&world), stores.local.clone(), settings);
    let (hint, hints) = mpsc::channel(QUEUE);
    tasks.run("kernel watch", watch_kernel(config.netns_dir.clone(), hint, tasks.stop.clone()));
    tasks.run("standing loop", reconciler.run(asked, hints, tasks.stop.clone()));

    let settings = service::Settings {
        pools: config.pools.clone(),
        attach_deadline: config.attach_deadline,
        run_dir: config.run_dir.clone(),
        netns_dir: config.netns_dir.clone(),
        netns_etc_dir: config.netns_etc_dir.clone(),
        dns: config.dns.clone(),
        host_gateways: config.host_gateways.clone(),
        default_bridge: Some(default_bridge(&config.bridge)),
    };
    let both = (stores.global.clone(), stores.local.clone());
    let service = Service::new(Arc::clone(&world), both, (kernel, gossip), ask, settings);
    let service = Arc::new(service.resolving(resolvers, host_conf).telling(notices));
    tasks.run("sandbox files", keep_files(Arc::clone(&service), tasks.stop.clone()));
    tasks.run("network bridge", prepare_bridge(Arc::clone(&service), tasks.stop.clone()));
    let janitor = Arc::clone(&service);
    let stop = tasks.stop.clone();
    tasks.run("janitor", async move { janitor.tidy_sandboxes(stop).await });
    serve_api(tasks, Api::new(service, about(&config, &node), status), api);
    if let Some(listener) = stores.listener {
        let (embedded, stop) = (stores.embedded.clone(), tasks.stop.clone());
        tasks.run_fallible("store server", async move { Ok(embedded.serve(listener, stop).await?) });
    }
    tasks.run("leases", stores.embedded.tend(tasks.stop.clone()));
    world
}

/// Answer the sandboxes' questions for names.
fn start_resolvers(
    tasks: &mut Tasks,
    world: &Arc<World>,
    (dead, host_conf): (&Dead, &Arc<HostConf>),
    config: &Config,
) -> Dns {
    let dead = dead.clone();
    let settings = dns::Settings {
        netns_dir: config.netns_dir.clone(),
        copy: config.state_dir.join(NAMES_FILE),
        defaults: config.dns.clone(),
    };
    let is_down = Box::new(move |node| dead.contains(node));
    let (dns, standing) = Dns::new(Arc::clone(world), is_down, Arc::clone(host_conf), settings);
    tasks.run("resolvers", standing.run(tasks.stop.clone()));
    dns
}

/// Keep the files of sandboxes, once all is known.
async fn keep_files(service: Arc<Service<LinuxKernel>>, stop: tokio_util::sync::CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = service.world.reached(Revisions::default()) => {}
    }
    if let Err(error) = service.remove_stray_endpoints().await {
        tracing::warn!(%error, "endpoints of sandboxes that are gone stay for now");
    }
    service.keep_files(stop).await;
}

/// The network `bridge`, as it is configured.
fn default_bridge(config: &BridgeConfig) -> DefaultBridge {
    let (wanted, link) = match config.link {
        BridgeLink::Own => (true, None),
        BridgeLink::Named(name) => (true, Some(name)),
        BridgeLink::None => (false, None),
    };
    DefaultBridge {
        wanted,
        link,
        addresses: config.addresses.clone(),
        ranges: config.ranges.clone(),
        gateways: config.gateways.clone(),
        mtu: config.mtu,
        icc: config.icc,
        masquerade: config.masquerade,
    }
}

/// Make the network `bridge` as it is configured, again until what it needs is there.
async fn prepare_bridge(service: Arc<Service<LinuxKernel>>, stop: tokio_util::sync::CancellationToken) {
    // Unknown is not empty: what is free is known once both stores have been read.
    tokio::select! {
        () = stop.cancelled() => return,
        () = service.world.reached(Revisions::default()) => {}
    }
    let mut pause = BRIDGE_AGAIN;
    let mut told = String::new();
    // What was begun is one transaction: it is whole or not at all when it is cut short.
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = service.prepare_bridge() => done,
        };
        let Err(error) = done else { break };
        let text = error.to_string();
        if text != told {
            tracing::warn!(error = %text, "the network bridge is not as configured: it is tried again");
            told = text;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(60)),
        }
    }
    stop.cancelled().await;
}

fn about(config: &Config, node: &Node) -> About {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    About {
        node_name: node.name.to_string(),
        store: config.store.to_string(),
        kernel: kernel.trim().to_owned(),
        state_dir: config.state_dir.clone(),
        run_dir: config.run_dir.clone(),
        netns_dir: config.netns_dir.clone(),
    }
}

/// Follow the cluster's keys and this node's own. The status of the cluster's store comes back.
fn follow_both(
    tasks: &mut Tasks,
    world: &Arc<World>,
    stores: &Stores,
    tenure: &watch::Receiver<Tenure>,
) -> watch::Receiver<StoreStatus> {
    let (status, seen) = watch::channel(StoreStatus::Starting);
    let (local_status, _) = watch::channel(StoreStatus::Starting);
    let both = [
        (Source::Global, &stores.global, KeyRange::followed(), status, "follower of the store"),
        (Source::Local, &stores.local, KeyRange::local(), local_status, "follower of the local store"),
    ];
    for (source, store, range, status, name) in both {
        let (out, changes) = mpsc::channel(QUEUE);
        tasks.run(name, follow(store.clone(), range, out, status, tasks.stop.clone()));
        let (world, mut tenure, stop) = (Arc::clone(world), tenure.clone(), tasks.stop.clone());
        tasks.run("feed", async move {
            // What the cluster's store says of this node is another host's as long as that one has its id.
            if source == Source::Local || undisputed(&mut tenure, &stop).await {
                feed(world, source, changes).await;
            }
        });
    }
    tasks.run("store watch", tell_store(seen.clone(), tasks.stop.clone()));
    seen
}

/// Say in the log when the store goes and comes, once each: while it is away, every try fails in words of its own.
async fn tell_store(mut status: watch::Receiver<StoreStatus>, stop: tokio_util::sync::CancellationToken) {
    let mut away = false;
    loop {
        // The newest value stays in the channel when this is cut short.
        let changed = tokio::select! {
            () = stop.cancelled() => return,
            changed = status.changed() => changed,
        };
        if changed.is_err() {
            stop.cancelled().await;
            return;
        }
        match &*status.borrow_and_update() {
            StoreStatus::Starting => {}
            StoreStatus::Connected => {
                away = false;
                tracing::info!("the store is there");
            }
            StoreStatus::Away { error, .. } if away => tracing::debug!(%error, "the store is still away"),
            StoreStatus::Away { error, .. } => {
                away = true;
                tracing::warn!(%error, "the store is away: networks go on as they are, changes must wait");
            }
        }
    }
}

fn keep_registered(
    tasks: &mut Tasks,
    world: &Arc<World>,
    stores: &Stores,
    (gossip, node): (&Gossip, &Node),
    (held, claim): (watch::Sender<Tenure>, Claim),
) {
    let stop = || tasks.stop.clone();
    let tenure = held.subscribe();
    let alive = hold_claim(stores.global.clone(), claim, held, stop());
    let record = register::register(Arc::clone(world), stores.global.clone(), node.clone(), tenure, stop());
    let seeds = register::seed(Arc::clone(world), gossip.clone(), stop());
    tasks.run("lease", alive);
    tasks.run("registration", record);
    tasks.run("seeds", seeds);
}

fn serve_api(tasks: &mut Tasks, api: Api<LinuxKernel>, listener: UnixListener) {
    let stop = tasks.stop.clone();
    tasks.run_fallible("API", async move {
        let server = tonic::transport::Server::builder().add_service(api.into_server());
        let incoming = UnixListenerStream::new(listener);
        // Calls under way, such as `events`, are cut when their time is over.
        server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?;
        Ok(())
    });
}

/// Pass on what the kernel says of links and namespaces, again after a failure: the full looks go on without it.
async fn watch_kernel(
    netns_dir: std::path::PathBuf,
    hints: mpsc::Sender<Seen>,
    stop: tokio_util::sync::CancellationToken,
) {
    while !stop.is_cancelled() {
        if let Err(error) = kernel::watch(netns_dir.clone(), hints.clone(), stop.clone()).await {
            tracing::warn!(error = chain(&error), "cannot watch the host's links");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(WATCH_AGAIN) => {}
        }
    }
}

/// Gossip with those that `--join` names, resolving their names again until somebody answers.
async fn join(gossip: Gossip, targets: Vec<HostPort>, stop: tokio_util::sync::CancellationToken) {
    let mut pause = Duration::from_secs(1);
    loop {
        let alone = gossip.members().borrow().len() <= 1;
        let mut found = Vec::new();
        for target in targets.iter().filter(|_| alone) {
            match lookup_host((target.host.as_str(), target.port)).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => tracing::warn!(%target, %error, "cannot resolve the name of a node to join"),
            }
        }
        if !found.is_empty() {
            gossip.seed(found);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(30)),
        }
    }
}

/// Say that the agent is ready: once every network and sandbox of this host has been looked at, so that what is ordered after
/// the agent finds them, or the store lets it wait too long.
fn announce(
    tasks: &mut Tasks,
    (world, tenure): (Arc<World>, watch::Receiver<Tenure>),
    name: String,
    vtep: std::net::IpAddr,
) {
    let stop = tasks.stop.clone();
    tasks.run("announcement", async move {
        let look = async {
            if timeout(STORES, world.reached(Revisions::default())).await.is_err() {
                let taken = matches!(*tenure.borrow(), Tenure::Taken(_));
                return if taken {
                    "ready, but another host has this node's id"
                } else {
                    "ready, but the store is away"
                };
            }
            match timeout(FIRST_LOOK, world.first_look()).await {
                Ok(()) => "ready",
                Err(_) => "ready, but not all networks have been looked at yet",
            }
        };
        let state = tokio::select! {
            () = stop.cancelled() => return,
            state = look => state,
        };
        tracing::info!(node = %name, %vtep, version = env!("CARGO_PKG_VERSION"), "{state}");
        let notified =
            sd_notify::notify(&[sd_notify::NotifyState::Ready, sd_notify::NotifyState::Status(state)]);
        if let Err(error) = notified {
            tracing::warn!(%error, "cannot tell systemd that the agent is ready");
        }
        stop.cancelled().await;
        // The manager may be gone by now.
        drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    });
}
