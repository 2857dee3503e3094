//! Starting: every part in order, each with an error that says what to do.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use super::{
    NAMES_FILE, NETNS_DIR_NOTE, QUEUE, announce, bridge,
    claim::{Host, watch_tenure},
    follow, health, identity,
    ids::Places,
    liveness::{self, Dead, GossipPeers},
    lock, members, register, server,
    stores::{self, Stores},
    tasks::{Tasks, When},
};
use crate::{
    api::{About, Api, Closing},
    config::{Config, StoreConfig},
    dns::{self, Dns, HostConf},
    gossip::Gossip,
    kernel::{Kernel, LinuxKernel, Machine, Seen},
    model::{Node, chain},
    reconcile::{self, Evidence, Reconciler, Settings, world::World},
    service::{self, Conditions, Service},
    store::{Claim, Identity, Key, Tenure, hold_claim},
};

/// Time between two full looks at everything.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// Pause after the watch of the kernel has ended.
const WATCH_AGAIN: Duration = Duration::from_secs(5);
/// How long verbs that are under way when the agent is stopped may go on: what they wait for ends after that.
const UNDER_WAY: Duration = Duration::from_millis(400);
/// How long the word that the others end with may take to its reader.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Whom this host asks for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Start, say so, and run until stopped.
pub(super) async fn run(config: Config) -> Result<()> {
    let _lock = lock::take(&config.state_dir)?;
    let name = identity::node_name(config.node_name.clone())?;
    let kernel = Arc::new(LinuxKernel::new(&config.netns_dir).naming_in(config.mount_namespace.clone()));
    let facts = kernel.facts().await.context("cannot look at this host's links")?;
    let vtep = identity::advertised(config.advertise, &facts)?;
    kernel.check_naming().await?;
    // Before anything is made: what of ours is here already.
    let mut evidence =
        Evidence::gather(&*kernel).await.context("cannot look for what is in this host's kernel")?;
    let stores = stores::open(&config, vtep, &evidence, &*kernel).await?;
    evidence.held = stores.local.get(&Key::Identity(Identity::Held)).await?.1.is_some();
    let places = Places {
        state_dir: config.state_dir.as_path().into(),
        run_dir: config.run_dir.as_path().into(),
        local: stores.local.clone(),
    };
    let id = places.node(&evidence).await?;
    let cluster = places.cluster().await?;
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
    note_netns_dir(&config)?;
    let socket = members::bind(vtep, config.gossip_port, &*kernel).await?;
    let api = server::listen(&config.run_dir, config.api_group.as_deref()).await?;
    let files = config.run_dir.join("sandboxes");
    std::fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
    let mut tasks = Tasks::new();
    let (held, tenure) = watch::channel(Tenure::default());
    let gossip = members::start(&mut tasks, socket, &node, tenure.clone());
    let claim = claim_on(&*kernel, &node, &config)?;
    let world = Arc::new(World::new(node.id));
    if let Some(cluster) = cluster {
        world.set_cluster(cluster);
    }
    tasks.run("identity", places.keep_cluster(Arc::clone(&world), tasks.stop.clone()));
    let parts = Parts { config, kernel, stores, gossip, node, claim: (held, claim), evidence };
    start_tasks(&mut tasks, &world, parts, api);
    announce::ready(&mut tasks, (world, tenure), name.to_string(), vtep);
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
    /// What of ours was in the kernel.
    evidence: Evidence,
}

/// This node's claim on its id.
fn claim_on(machine: &dyn Machine, node: &Node, config: &Config) -> Result<Claim> {
    let host = Host::new(machine, Some(node.vtep))?;
    let value = host.to_string().into();
    // A store of this host's own has nobody else's words under this node's id.
    let alone = !matches!(config.store, StoreConfig::Etcd(_));
    let ours = Box::new(move |value: &[u8]| alone || host.is_ours(value));
    Ok(Claim { key: Key::Alive(node.id), value, ttl: config.lease_ttl, ours })
}

fn start_tasks(tasks: &mut Tasks, world: &Arc<World>, parts: Parts, api: UnixListener) {
    let Parts { config, kernel, stores, gossip, node, claim, evidence } = parts;
    let tenure = claim.0.subscribe();
    let status = follow::follow_both(tasks, world, (&stores, &evidence), &tenure);
    keep_registered(tasks, world, &stores, (&gossip, &node), claim);
    let notices = Conditions::default();
    let whose = (node.id, stores.global.clone(), config.state_dir.as_path().into());
    tasks.run("node id watch", watch_tenure(whose, tenure, notices.clone(), tasks.stop.clone()));
    tasks.run("join", members::join(gossip.clone(), config.join.clone(), tasks.stop.clone()));
    let health = health::Watch {
        world: Arc::clone(world),
        gossip: gossip.clone(),
        notices: notices.clone(),
        node: node.clone(),
        kernel: Arc::clone(&kernel),
        lease_ttl: config.lease_ttl,
    };
    tasks.run("health", health.run(tasks.stop.clone()));
    let dead = Dead::default();
    tasks.run(
        "liveness watch",
        liveness::watch(dead.clone(), Arc::clone(world), gossip.clone(), tasks.stop.clone()),
    );

    let host_conf = Arc::new(HostConf::new(Path::new(RESOLV_CONF)));
    let resolvers = start_resolvers(tasks, world, (&dead, &host_conf), &kernel, &config);

    let (ask, asked) = mpsc::channel(QUEUE);
    let peers = GossipPeers { gossip: gossip.clone(), dead };
    let settings = Settings {
        vtep: node.vtep,
        vxlan_port: config.vxlan_port,
        gossip_port: config.gossip_port,
        store_ports: stores::guarded_ports(&config),
        full_look: FULL_LOOK,
        ip_forward: config.ip_forward,
    };
    let reconciler =
        Reconciler::new(Arc::clone(&kernel), peers, Arc::clone(world), stores.local.clone(), settings);
    let (tracked, stop) = (Arc::clone(&kernel), tasks.stop.clone());
    tasks.run("connections", reconcile::forget(tracked, Arc::clone(world), stop));
    let (hint, hints) = mpsc::channel(QUEUE);
    tasks.run("kernel watch", watch_kernel(Arc::clone(&kernel), hint, tasks.stop.clone()));
    tasks.run("reconcile loop", reconciler.run(asked, hints, tasks.stop.clone()));

    let settings = service::Settings {
        pools: config.pools.clone(),
        attach_deadline: config.attach_deadline,
        run_dir: config.run_dir.clone(),
        netns_dir: config.netns_dir.clone(),
        netns_etc_dir: config.netns_etc_dir.clone(),
        dns: config.dns.clone(),
        host_gateways: config.host_gateways.clone(),
        default_bridge: Some(bridge::default_bridge(&config.bridge)),
    };
    let service = Arc::new(Service::new(service::Parts {
        world: Arc::clone(world),
        stores: service::Stores { global: stores.global.clone(), local: stores.local.clone() },
        kernel: Arc::clone(&kernel),
        gossip,
        requests: ask,
        dns: resolvers,
        host_conf,
        conditions: notices,
        store_status: status,
        settings,
    }));
    tasks.run("sandbox files", keep_files(Arc::clone(&service), tasks.stop.clone()));
    tasks.run("network bridge", bridge::prepare_bridge(Arc::clone(&service), tasks.stop.clone()));
    let janitor = Arc::clone(&service);
    let stop = tasks.stop.clone();
    tasks.run("janitor", async move { janitor.tidy_sandboxes(stop).await });
    serve_api(tasks, Api::new(service, about(&config, &node, &*kernel)), api);
    if let Some(listener) = stores.listener {
        let (embedded, stop) = (stores.embedded.clone(), tasks.stop.clone());
        let served = stores::serve(embedded, listener, Arc::clone(world), kernel, stop);
        tasks.run_fallible("store server", served);
    }
    tasks.run("leases", stores.embedded.tend(tasks.stop.clone()));
}

/// Answer the sandboxes' questions for names.
fn start_resolvers(
    tasks: &mut Tasks,
    world: &Arc<World>,
    (dead, host_conf): (&Dead, &Arc<HostConf>),
    kernel: &Arc<LinuxKernel>,
    config: &Config,
) -> Dns {
    let dead = dead.clone();
    let settings = dns::Settings {
        netns_dir: config.netns_dir.clone(),
        copy: config.state_dir.join(NAMES_FILE),
        defaults: config.dns.clone(),
    };
    let (dns, listeners) = Dns::new(dns::Parts {
        world: Arc::clone(world),
        is_down: Box::new(move |node| dead.contains(node)),
        host: Arc::clone(host_conf),
        machine: Arc::<LinuxKernel>::clone(kernel),
        sockets: Arc::<LinuxKernel>::clone(kernel),
        settings,
    });
    tasks.run_until(When::Last, "resolvers", |stop| async {
        listeners.run(stop).await;
        Ok(())
    });
    dns
}

/// Keep the files of sandboxes, once all is known.
async fn keep_files(service: Arc<Service<LinuxKernel>>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = service.until_read() => {}
    }
    if let Err(error) = service.remove_stray_endpoints().await {
        tracing::warn!(%error, "endpoints of sandboxes that are gone stay for now");
    }
    service.keep_files(stop).await;
}

fn about(config: &Config, node: &Node, machine: &dyn Machine) -> About {
    About {
        node_name: node.name.to_string(),
        store: config.store.to_string(),
        kernel: machine.release(),
        state_dir: config.state_dir.clone(),
        run_dir: config.run_dir.clone(),
        netns_dir: config.netns_dir.clone(),
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
    let others = members::introduce(Arc::clone(world), gossip.clone(), stop());
    tasks.run("lease", alive);
    tasks.run("registration", record);
    tasks.run("introductions", others);
}

fn serve_api(tasks: &mut Tasks, api: Api<LinuxKernel>, listener: UnixListener) {
    tasks.run_until(When::First, "API", |stop| async move {
        let (closed, farewell) = (CancellationToken::new(), stop.clone());
        let service = Closing::new(api.until(stop.clone()).into_server(), closed.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        let incoming = UnixListenerStream::new(listener);
        let serving = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        let patience = async {
            farewell.cancelled().await;
            tokio::time::sleep(UNDER_WAY).await;
            closed.cancel();
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            served = serving => served?,
            // Somebody does not read what is left for him.
            () = patience => tracing::debug!("the connection of a client is cut"),
        }
        Ok(())
    });
}

/// Pass on what the kernel says of links and namespaces, again after a failure: the full looks go on without it.
async fn watch_kernel(kernel: Arc<impl Kernel>, hints: mpsc::Sender<Seen>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = kernel.watch(hints.clone(), stop.clone()).await {
            tracing::warn!(error = chain(&error), "cannot watch the host's links");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(WATCH_AGAIN) => {}
        }
    }
}
