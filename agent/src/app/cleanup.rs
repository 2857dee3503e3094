//! `ovagent cleanup`: the one verb that removes everything of ours from a host.
//!
//! It works without a store and without a configuration: the kernel says what is ours. The local store, if it can be read,
//! only adds where adopted namespaces are, and what settings of the host were before.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{NETNS_DIR_NOTE, identity, lock, stores};
use crate::{
    config::{Config, StoreConfig},
    convert::Record,
    kernel::{Kernel, LinuxKernel},
    model::{AddressOwner, Endpoint, IfName, NodeId, Sandbox},
    plan::{
        netns_of,
        op::Op,
        ownership::{Mark, Unit},
        plan,
        state::{Look, LookAt, Netns, State},
    },
    reconcile::{chain, marked_units},
    store::{Commit, Embedded, Entry, Key, KeyRange, Store},
};

/// The embedded store, in the state directory.
const STORE_FILE: &str = "store.redb";
/// How long the cluster's store is waited for.
const STORE: Duration = Duration::from_secs(5);

pub(super) async fn run(config: Config, force: bool) -> Result<()> {
    refuse_to_delete_a_cluster(&config, force)?;
    let lock = lock::take(&config.state_dir)?;
    let kernel = LinuxKernel::new(&config.netns_dir).naming_in(config.mount_namespace.clone());
    let local = open_local(&config);
    let adopted = match &local {
        Some(local) => adopted(&kernel, local).await?,
        None => Vec::new(),
    };
    let mut steps = 0;
    for (unit, look) in looks(&kernel, &adopted).await? {
        steps += remove(&kernel, unit, look).await?;
    }
    if let Some(local) = &local {
        steps += restore(&kernel, local).await?;
    }
    forget(&config).await;
    if config.state_dir.join(NETNS_DIR_NOTE).exists() {
        kernel.tidy().await.context("cannot tidy the netns directory")?;
    }
    remove_files(&config);
    drop(lock);
    tracing::info!(steps, "this host is as it was before the first start");
    Ok(())
}

/// The embedded store of an agent that serves it has what all hosts know.
fn refuse_to_delete_a_cluster(config: &Config, force: bool) -> Result<()> {
    let StoreConfig::Serve { .. } = config.store else { return Ok(()) };
    if force || !config.state_dir.join(STORE_FILE).exists() {
        return Ok(());
    }
    bail!(
        "this host serves the store of a cluster (store = {}): cleanup would delete the networks and endpoints of all its \
         hosts; move the store elsewhere first, or use ovagent cleanup --force",
        config.store
    )
}

/// The embedded store, if there is one that can be read.
fn open_local(config: &Config) -> Option<Store> {
    let path = config.state_dir.join(STORE_FILE);
    if !path.exists() {
        return None;
    }
    match Embedded::open(Some(&path)) {
        Ok(embedded) => Some(Store::embedded(&embedded)),
        // It goes all the same: a damaged one is a reason to clean up.
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "the embedded store cannot be read: settings that the agent changed stay as they are (sysctl \
                 net.ipv4.ip_forward, net.ipv6.conf.all.forwarding, …), and what is left in adopted namespaces goes with them"
            );
            None
        }
    }
}

/// The adopted sandboxes whose namespaces are still there: nothing else leads to what is ours in them.
async fn adopted(kernel: &LinuxKernel, local: &Store) -> Result<Vec<Sandbox>> {
    let mut there = Vec::new();
    for entry in local.list(&KeyRange::local()).await?.entries {
        let Ok(Key::Sandbox(_)) = entry.key.parse() else { continue };
        let Ok(sandbox) = Sandbox::from_bytes(&entry.value) else { continue };
        let inode = kernel.netns_inode(sandbox.netns.clone()).await?;
        if sandbox.adopted && sandbox.shares.is_none() && inode == Some(sandbox.netns_inode) {
            there.push(sandbox);
        }
    }
    Ok(there)
}

/// Every unit that something here belongs to, with where that is. Networks first: what they have in sandboxes goes with
/// them.
async fn looks(kernel: &LinuxKernel, adopted: &[Sandbox]) -> Result<Vec<(Unit, Look)>> {
    let all = || LookAt { links: None, sysctls: BTreeSet::new(), table: true, openings: true };
    let path = |sandbox: &Sandbox| Netns::Path(sandbox.netns.clone());
    let mut units = marked_units(kernel).await.context("cannot look at this host")?;
    units.insert(Unit::Host);
    units.extend(adopted.iter().map(|sandbox| Unit::Sandbox(sandbox.id)));
    // Links of ours that are not in a namespace of ours.
    let scattered = [Netns::Host].into_iter().chain(adopted.iter().map(path));
    let at = LookAt { links: None, ..LookAt::default() };
    let seen = kernel.observe(Look { netns: scattered.map(|netns| (netns, at.clone())).collect() }).await?;
    let mut links: BTreeMap<Unit, BTreeMap<Netns, BTreeSet<IfName>>> = BTreeMap::new();
    for (netns, state) in seen.netns {
        for (name, link) in state.links {
            if let Some(mark) = link.mark {
                units.insert(mark.unit);
                links.entry(mark.unit).or_default().entry(netns.clone()).or_default().insert(name);
            }
        }
    }
    let named = kernel.named_netns().await?;
    let mut looks = Vec::new();
    for unit in units {
        let scattered = links.remove(&unit).unwrap_or_default();
        let some = |links: BTreeSet<IfName>| LookAt { links: Some(links), table: false, ..LookAt::default() };
        let mut look =
            Look { netns: scattered.into_iter().map(|(netns, links)| (netns, some(links))).collect() };
        match unit {
            Unit::Host => {
                look.netns.insert(Netns::Host, LookAt { links: Some(BTreeSet::new()), ..all() });
            }
            Unit::Network(id) => {
                look.netns.insert(netns_of(id), all());
            }
            Unit::Sandbox(id) => {
                let marked =
                    |(_, mark): &&(_, Option<Mark>)| mark.as_ref().is_some_and(|mark| mark.unit == unit);
                look.netns
                    .extend(named.iter().filter(marked).map(|(name, _)| (Netns::Named(name.clone()), all())));
                // Of a namespace that is not ours our table goes.
                let own = adopted.iter().filter(|sandbox| sandbox.id == id);
                let table = LookAt { table: true, ..some(BTreeSet::new()) };
                look.netns.extend(own.map(|sandbox| (path(sandbox), table.clone())));
            }
        }
        looks.push((unit, look));
    }
    looks.sort_by_key(|(unit, _)| !matches!(unit, Unit::Network(_)));
    Ok(looks)
}

async fn remove(kernel: &LinuxKernel, unit: Unit, look: Look) -> Result<usize> {
    let seen = kernel.observe(look).await?;
    let ops = plan(unit, &State::default(), &seen);
    let steps = ops.len();
    kernel.apply(ops).await?;
    Ok(steps)
}

/// Give the host's settings back the values that they had before we set them.
async fn restore(kernel: &LinuxKernel, local: &Store) -> Result<usize> {
    let listing = local.list(&KeyRange::local()).await?;
    let mut ops = Vec::new();
    for entry in listing.entries {
        if let Ok(Key::Sysctl(key)) = entry.key.parse() {
            let value = String::from_utf8_lossy(&entry.value).into_owned();
            ops.push(Op::SetSysctl(Netns::Host, key.replace('.', "/"), value));
        }
    }
    let steps = ops.len();
    kernel.apply(ops).await?;
    Ok(steps)
}

/// Take this node's records out of the cluster's store, if it can be reached.
async fn forget(config: &Config) {
    let StoreConfig::Etcd(_) = config.store else { return };
    let Ok(id) = identity::node_id(&config.state_dir) else { return };
    let done = async {
        let store = stores::etcd(config)?;
        forget_node(&store, id).await
    };
    let error = match tokio::time::timeout(STORE, done).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_elapsed) => format!("no answer in {} s", STORE.as_secs()),
    };
    tracing::warn!(%error, node = %id, "the cluster still has this node's records: remove them with `ovctl node rm {id}` on another host");
}

async fn forget_node(store: &Store, id: NodeId) -> Result<()> {
    let all = store.list(&KeyRange::everything()).await?;
    let endpoint =
        |entry: &Entry| Endpoint::from_bytes(&entry.value).ok().filter(|endpoint| endpoint.node == id);
    let is_endpoint = |entry: &&Entry| matches!(entry.key.parse(), Ok(Key::Endpoint(..)));
    let endpoints: Vec<Endpoint> = all.entries.iter().filter(is_endpoint).filter_map(endpoint).collect();
    let mut commit = Commit::new().delete(Key::Node(id)).delete(Key::Alive(id));
    let mut pending = 2;
    for entry in &all.entries {
        let Ok(key) = entry.key.parse::<Key>() else { continue };
        if !belongs(&key, &entry.value, id, &endpoints) {
            continue;
        }
        commit = commit.delete(key);
        pending += 1;
        if pending > 100 {
            store.commit(std::mem::take(&mut commit)).await?;
            pending = 0;
        }
    }
    if pending > 0 {
        store.commit(commit).await?;
    }
    Ok(())
}

/// Whether a record is this node's, or one of its endpoints'.
fn belongs(key: &Key, value: &[u8], id: NodeId, endpoints: &[Endpoint]) -> bool {
    match key {
        Key::Endpoint(_, endpoint) => endpoints.iter().any(|own| own.id == *endpoint),
        Key::EndpointName(network, name) => {
            endpoints.iter().any(|own| own.network == *network && own.name == *name)
        }
        Key::Member(_, node) => *node == id,
        Key::Address(..) => match AddressOwner::from_bytes(value) {
            Ok(AddressOwner::Endpoint(owner)) => endpoints.iter().any(|own| own.id == owner),
            Ok(AddressOwner::Node(owner)) => owner == id,
            Ok(AddressOwner::Reserved(_)) | Err(_) => false,
        },
        Key::Network(_)
        | Key::NetworkName(_)
        | Key::Vni(_)
        | Key::Node(_)
        | Key::Alive(_)
        | Key::Pool(_)
        | Key::Here(_)
        | Key::Sandbox(_)
        | Key::Leg(_)
        | Key::Sysctl(_) => false,
    }
}

fn remove_files(config: &Config) {
    let files = [
        config.state_dir.join("node-id"),
        config.state_dir.join(STORE_FILE),
        config.state_dir.join("lock"),
        config.state_dir.join(NETNS_DIR_NOTE),
        config.run_dir.join("api.sock"),
    ];
    for file in files {
        if let Err(error) = std::fs::remove_file(&file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %file.display(), %error, "cannot remove a file");
        }
    }
    let sandboxes = config.run_dir.join("sandboxes");
    if let Err(error) = std::fs::remove_dir_all(&sandboxes)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %sandboxes.display(), %error, "cannot remove a directory");
    }
    // Only where nobody else has put anything there.
    for dir in [&config.run_dir, &config.state_dir] {
        drop(std::fs::remove_dir(dir));
    }
}
