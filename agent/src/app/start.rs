//! Starting: every part in order, each with an error that says what to do.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{net::UnixListener, sync::watch};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use super::{
    NAMES_FILE, NETNS_DIR_NOTE, announce, bridge,
    claim::{Host, watch_tenure},
    follow, health, identity,
    ids::Places,
    liveness::{self, Dead},
    lock, members, register, server,
    stores::{self, Stores},
    tasks::{Tasks, When},
};
use crate::{
    api::{About, Api, Closing},
    config::{Config, StoreConfig},
    core::{Core, Parts as Wiring, Settings, Task},
    dns::{self, HostConf},
    gossip::Gossip,
    kernel::{FactLink, Facts, Kernel, LinuxKernel, Machine},
    model::Node,
    reconcile::{self, Evidence, world::World},
    service::{self, Conditions, Service},
    store::{Claim, Identity, Key, Tenure, hold_claim},
};

/// Time between two full looks at everything.
const FULL_LOOK: Duration = Duration::from_secs(60);
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
        underlay_mtu: mtu_of(&facts, vtep),
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
    let claim = claim_on(&*kernel, &node, &config)?;
    let (dead, conditions, noted) = (Dead::default(), Conditions::default(), evidence.held);
    let down = dead.clone();
    let core = Core::new(Wiring {
        kernel: Arc::clone(&kernel),
        stores: service::Stores { global: stores.global.clone(), local: stores.local.clone() },
        tenure: tenure.clone(),
        evidence,
        socket,
        gossip: members::own(&node),
        is_down: Arc::new(move |node| down.contains(node)),
        conditions: conditions.clone(),
        host_conf: Arc::new(HostConf::new(Path::new(RESOLV_CONF))),
        settings: settings(&config, &node),
        stop: tasks.stop.clone(),
    });
    let world = Arc::clone(&core.world);
    if let Some(cluster) = cluster {
        world.set_cluster(cluster);
    }
    tasks.run("identity", places.keep_cluster(Arc::clone(&world), tasks.stop.clone()));
    start_tasks(
        &mut tasks,
        Parts { config, kernel, stores, core, node, held, claim, dead, conditions, noted },
        api,
    );
    announce::ready(&mut tasks, world, tenure, name.to_string(), vtep);
    let ended = tasks.until_stopped().await;
    tracing::info!("stopped; what is in the kernel stays");
    ended
}

/// The MTU of the link that has this address, in bytes.
fn mtu_of(facts: &Facts, address: IpAddr) -> u32 {
    let has = |link: &&FactLink| link.addresses.iter().any(|own| own.addr() == address);
    facts.links.iter().find(has).map_or(1500, |link| link.mtu)
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
    core: Core<LinuxKernel>,
    node: Node,
    /// Its hold on its id, and where it is told how that stands.
    held: watch::Sender<Tenure>,
    claim: Claim,
    dead: Dead,
    conditions: Conditions,
    /// It is noted that the cluster's store was held.
    noted: bool,
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

/// The settings of the core.
fn settings(config: &Config, node: &Node) -> Settings {
    Settings {
        reconcile: reconcile::Settings {
            vtep: node.vtep,
            vxlan_port: config.vxlan_port,
            gossip_port: config.gossip_port,
            store_ports: stores::guarded_ports(config),
            full_look: FULL_LOOK,
            ip_forward: config.ip_forward,
        },
        dns: Some(dns::Settings {
            netns_dir: config.netns_dir.clone(),
            copy: config.state_dir.join(NAMES_FILE),
            defaults: config.dns.clone(),
        }),
        service: service::Settings {
            pools: config.pools.clone(),
            attach_deadline: config.attach_deadline,
            run_dir: config.run_dir.clone(),
            netns_dir: config.netns_dir.clone(),
            netns_etc_dir: config.netns_etc_dir.clone(),
            dns: config.dns.clone(),
            host_gateways: config.host_gateways.clone(),
            default_bridge: Some(bridge::default_bridge(&config.bridge)),
        },
    }
}

fn start_tasks(tasks: &mut Tasks, parts: Parts, api: UnixListener) {
    let Parts { config, kernel, stores, core, node, held, claim, dead, conditions, noted } = parts;
    let Core { world, gossip, store_status, service, tasks: own, resolvers, .. } = core;
    for Task { name, work } in own {
        tasks.run(name, work);
    }
    if let Some(resolvers) = resolvers {
        tasks.run_until(When::Last, "resolvers", |stop| async {
            resolvers.run(stop).await;
            Ok(())
        });
    }
    let tenure = held.subscribe();
    follow::watch_stores(tasks, &world, &stores.local, noted, store_status);
    keep_registered(tasks, &world, &stores, &gossip, &node, held, claim);
    let state_dir = config.state_dir.as_path().into();
    let (global, stop) = (stores.global.clone(), tasks.stop.clone());
    tasks.run("node id watch", watch_tenure(node.id, global, state_dir, tenure, conditions.clone(), stop));
    tasks.run("join", members::join(gossip.clone(), config.join.clone(), tasks.stop.clone()));
    let health = health::Watch {
        world: Arc::clone(&world),
        gossip: gossip.clone(),
        notices: conditions,
        node: node.clone(),
        kernel: Arc::clone(&kernel),
        lease_ttl: config.lease_ttl,
    };
    tasks.run("health", health.run(tasks.stop.clone()));
    tasks.run("liveness watch", liveness::watch(dead, Arc::clone(&world), gossip, tasks.stop.clone()));
    tasks.run("sandbox files", keep_files(Arc::clone(&service), tasks.stop.clone()));
    tasks.run("network bridge", bridge::prepare_bridge(Arc::clone(&service), tasks.stop.clone()));
    let janitor = Arc::clone(&service);
    let stop = tasks.stop.clone();
    tasks.run("janitor", async move { janitor.tidy_sandboxes(stop).await });
    serve_api(tasks, Api::new(service, about(&config, &node, &*kernel)), api);
    if let Some(listener) = stores.listener {
        let (embedded, stop) = (stores.embedded.clone(), tasks.stop.clone());
        let served = stores::serve(embedded, listener, world, kernel, stop);
        tasks.run_fallible("store server", served);
    }
    tasks.run("leases", stores.embedded.tend(tasks.stop.clone()));
}

/// Keep the files of sandboxes, once all is known.
async fn keep_files(service: Arc<Service<LinuxKernel>>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = service.until_read() => {}
    }
    if let Err(error) = service.remove_stray_endpoints().await {
        tracing::warn!(%error, "cannot remove the endpoints of sandboxes that are gone");
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
    gossip: &Gossip,
    node: &Node,
    held: watch::Sender<Tenure>,
    claim: Claim,
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
        let (closed, release) = (CancellationToken::new(), stop.clone());
        let service = Closing::new(api.until(stop.clone()).into_server(), closed.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        let incoming = UnixListenerStream::new(listener);
        let serving = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        let patience = async {
            release.cancelled().await;
            tokio::time::sleep(UNDER_WAY).await;
            closed.cancel();
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            served = serving => served?,
            // Somebody does not read what is left for him.
            () = patience => tracing::debug!("closed the connection of a client that does not read"),
        }
        Ok(())
    });
}
