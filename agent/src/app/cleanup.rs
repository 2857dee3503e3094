//! `ovagent cleanup`: the one verb that removes everything of ours from a host.
//!
//! It works without a store and without a configuration: the kernel says what is ours. The local store, if it can be read,
//! only adds which sandboxes there are, and what settings of the host were before.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{
    NAMES_FILE, NETNS_DIR_NOTE,
    claim::{self, Host},
    fence, identity, ids, lock, stores,
};
use crate::{
    config::{Config, StoreConfig},
    convert::Record,
    kernel::{Kernel, LinuxKernel},
    model::{AddressOwner, Endpoint, Node, NodeId, Sandbox, chain},
    plan::{
        is_host_setting,
        op::{Op, SettingOp},
        ownership::Unit,
        plan,
        state::{Look, Netns, State},
    },
    reconcile::inventory,
    service::remove_sandbox_files,
    store::{Commit, Embedded, Entry, Key, KeyRange, Store},
};

/// The embedded store, in the state directory.
const STORE_FILE: &str = "store.redb";
/// The mount namespace of the process's first thread.
const HOST_MOUNTS: &str = "/proc/self/ns/mnt";
/// How long the cluster's store is waited for.
const STORE: Duration = Duration::from_secs(5);

/// On a thread that can reach the agent's own places only; this one is left as it is.
pub(super) fn run(mut config: Config, force: bool) -> Result<()> {
    // By this thread, names of namespaces go from where the host sees them.
    config.mount_namespace.get_or_insert_with(|| HOST_MOUNTS.into());
    if !config.state_dir.exists() {
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("cannot make the state directory {}", config.state_dir.display()))?;
    }
    let dirs = [config.run_dir.clone(), config.state_dir.clone()];
    let shut_in = move || {
        if let Err(error) = fence::shut_in(&[&config.state_dir, &config.run_dir, &config.netns_etc_dir]) {
            tracing::warn!(
                error = format!("{error:#}"),
                "cleanup runs without the restrictions of the agent's systemd unit"
            );
        }
        super::runtime()?.block_on(clean_up(config, force))
    };
    let thread = std::thread::Builder::new().name("cleanup".into()).spawn(shut_in)?;
    thread.join().unwrap_or_else(|_panic| bail!("cleanup died"))?;
    // Only where nobody else has put anything there.
    for dir in dirs {
        drop(std::fs::remove_dir(dir));
    }
    Ok(())
}

async fn clean_up(config: Config, force: bool) -> Result<()> {
    refuse_to_delete_a_cluster(&config, force)?;
    let lock = lock::take(&config.state_dir)?;
    let kernel = LinuxKernel::new(&config.netns_dir).naming_in(config.mount_namespace.clone());
    let local = open_local(&config);
    let sandboxes = match &local {
        Some(local) => sandboxes(local).await?,
        None => Vec::new(),
    };
    let looks = inventory(&kernel, &sandboxes).await.context("cannot look at this host")?;
    let mut steps = 0;
    // Networks first: what they have in sandboxes goes with them.
    let mut looks: Vec<(Unit, Look)> = looks.into_iter().collect();
    looks.sort_by_key(|(unit, _)| !matches!(unit, Unit::Network(_)));
    for (unit, look) in looks {
        steps += remove(&kernel, unit, look).await?;
    }
    let mut all = true;
    for sandbox in sandboxes.iter().filter(|sandbox| !sandbox.adopted) {
        let dir = config.run_dir.join("sandboxes").join(sandbox.name.as_str());
        all &= remove_sandbox_files(&dir, &config.netns_etc_dir, &sandbox.name).await;
    }
    if let Some(local) = &local {
        steps += restore(&kernel, local).await?;
    }
    forget(&config).await;
    if config.state_dir.join(NETNS_DIR_NOTE).exists() {
        kernel.tidy().await.context("cannot tidy the netns directory")?;
    }
    all &= remove_files(&config);
    drop(lock);
    match all {
        true => tracing::info!(steps, "this host is as it was before the first start"),
        false => tracing::warn!(
            steps,
            "this host is as it was before the first start, except for the files listed above"
        ),
    }
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
        // It goes anyway: a damaged one is a reason to clean up.
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "the embedded store cannot be read: settings that the agent changed are not restored (sysctl \
                 net.ipv4.ip_forward, net.ipv6.conf.all.forwarding, …), and objects in adopted namespaces \
                 stay until those namespaces go"
            );
            None
        }
    }
}

/// The sandboxes of this host, as far as their records can be read.
async fn sandboxes(local: &Store) -> Result<Vec<Sandbox>> {
    let all = local.list(&KeyRange::local()).await?.entries;
    let records = all.iter().filter(|entry| matches!(entry.key.parse(), Ok(Key::Sandbox(_))));
    Ok(records.filter_map(|entry| Sandbox::from_bytes(&entry.value).ok()).collect())
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
        if let Ok(Key::Sysctl(name)) = entry.key.parse() {
            ops.extend(original(&name, &String::from_utf8_lossy(&entry.value)));
        }
    }
    let steps = ops.len();
    kernel.apply(ops).await?;
    Ok(steps)
}

/// The step that gives a setting back its value; none for what the agent never sets, whoever wrote it down.
fn original(name: &str, value: &str) -> Option<Op> {
    let key = name.replace('.', "/");
    if is_host_setting(&key, value) {
        return Some(Op::Setting(Netns::Host, SettingOp::SetSysctl(key, value.to_owned())));
    }
    tracing::warn!(sysctl = %name, %value, "not restored: the agent never sets this sysctl to such a value");
    None
}

/// Take this node's records out of the cluster's store, if it can be reached.
async fn forget(config: &Config) {
    let StoreConfig::Etcd(_) = config.store else { return };
    let Ok(id) = ids::kept_node(&config.state_dir) else { return };
    let done = async {
        let store = stores::etcd(config)?;
        if let Some(text) = incumbent(config, &store, id).await? {
            tracing::warn!("kept this node's records in the cluster's store: {text}");
            return Ok(());
        }
        forget_node(&store, id).await
    };
    let error = match tokio::time::timeout(STORE, done).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_elapsed) => format!("no answer in {} s", STORE.as_secs()),
    };
    tracing::warn!(
        %error, node = %id,
        "the cluster still has this node's records: remove them with `ovctl node rm {id}` on another host"
    );
}

/// Another host that lives under this one's id, in words.
async fn incumbent(config: &Config, store: &Store, id: NodeId) -> Result<Option<String>> {
    let Some(entry) = store.get(&Key::Alive(id)).await?.1 else { return Ok(None) };
    // The agent does not run: nothing here is to be advertised, but whose address it is.
    let kernel = LinuxKernel::new(&config.netns_dir);
    let facts = kernel.facts().await.context("cannot look at this host's links")?;
    let vtep = identity::advertised(config.advertise, &facts).ok();
    let host = Host::new(&kernel, vtep)?;
    if entry.lease == 0 || host.is_ours(&entry.value) {
        return Ok(None);
    }
    let record = store.get(&Key::Node(id)).await?.1;
    let name = record.and_then(|record| Node::from_bytes(&record.value).ok()).map(|node| node.name);
    let whose = claim::whose(name.as_ref(), &entry.value);
    Ok(Some(format!("{whose} is alive with the same node id {id}")))
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
        Key::Address(..) | Key::Mac(..) => match AddressOwner::from_bytes(value) {
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
        | Key::Sysctl(_)
        | Key::Identity(_) => false,
    }
}

/// Whether all went.
fn remove_files(config: &Config) -> bool {
    let mut all = true;
    let files = [
        config.state_dir.join(ids::NODE_ID),
        config.state_dir.join(ids::CLUSTER_ID),
        config.run_dir.join(ids::NODE_ID),
        config.run_dir.join(ids::CLUSTER_ID),
        config.state_dir.join(STORE_FILE),
        config.state_dir.join("lock"),
        config.state_dir.join(NETNS_DIR_NOTE),
        config.state_dir.join(NAMES_FILE),
        config.run_dir.join("api.sock"),
    ];
    for file in files {
        if let Err(error) = std::fs::remove_file(&file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(file = %file.display(), %error, "cannot remove a file");
            all = false;
        }
    }
    let sandboxes = config.run_dir.join("sandboxes");
    if let Err(error) = std::fs::remove_dir_all(&sandboxes)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %sandboxes.display(), %error, "cannot remove a directory");
        all = false;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_never_sets_is_not_put_back() {
        let kept = Op::Setting(Netns::Host, SettingOp::SetSysctl("net/ipv4/ip_forward".into(), "0".into()));
        assert_eq!(original("net.ipv4.ip_forward", "0"), Some(kept));
        for (name, value) in [
            ("kernel.core_pattern", "|/tmp/x"),
            ("net.ipv4.ip_forward", "|/tmp/x"),
            ("net.ipv4.conf.all.rp_filter", "0"),
        ] {
            assert_eq!(original(name, value), None, "{name}={value}");
        }
    }
}
