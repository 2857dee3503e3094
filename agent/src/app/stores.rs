//! The two stores: this node's own, and the cluster's, which may be the same.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::ids;
use crate::{
    config::{Config, StoreConfig},
    kernel::Machine,
    model::Protocol,
    reconcile::{
        Evidence,
        world::{Revisions, World},
    },
    store::{Commit, Embedded, EtcdConfig, Identity, Key, Store, TlsPaths},
};

/// What was opened.
pub(super) struct Stores {
    pub(super) embedded: Embedded,
    pub(super) local: Store,
    pub(super) global: Store,
    /// Where the embedded store is served to others.
    pub(super) listener: Option<(TcpListener, SocketAddr)>,
}

/// The embedded store, in the state directory.
pub(super) const STORE_FILE: &str = "store.redb";
/// Another one, until it says that it is there in place of one that was lost.
const ANEW_FILE: &str = "store.anew";
/// How long a store that is served may take to be believed before its port is given up again.
const BELIEVED: Duration = Duration::from_secs(1);
/// Pause before a port that was taken meanwhile is tried again.
const PORT_AGAIN: Duration = Duration::from_secs(5);

/// Open both. A cluster's store that is away is no error: it is waited for. Ours is served at this node's VTEP address. A file that is gone or empty where there was one
/// is a loss, and no beginning: the store that is opened in its place says so, until a person accepts it.
pub(super) async fn open(
    config: &Config,
    vtep: IpAddr,
    evidence: &Evidence,
    machine: &dyn Machine,
) -> Result<Stores> {
    let path = config.state_dir.join(STORE_FILE);
    if let Some(why) = lost(&config.state_dir, evidence) {
        tracing::error!("{why}");
        begin_anew(&config.state_dir, &why).await?;
    }
    let embedded = Embedded::open(Some(&path)).with_context(|| {
        format!(
            "cannot open the embedded store: if the file is damaged, restore {} from a backup, or move it \
             away (networks then keep working, and nothing is removed until you decide)",
            path.display()
        )
    })?;
    let local = Store::embedded(&embedded);
    let (global, listener) = match &config.store {
        StoreConfig::Local => (local.clone(), None),
        StoreConfig::Serve { port } => {
            let at = SocketAddr::new(vtep, *port);
            (local.clone(), Some((listen(at, machine).await?, at)))
        }
        StoreConfig::Etcd(_) => (etcd(config)?, None),
    };
    Ok(Stores { embedded, local, global, listener })
}

/// Why the store's file that is there, or is not, cannot be a beginning.
fn lost(state_dir: &Path, evidence: &Evidence) -> Option<String> {
    let path = state_dir.join(STORE_FILE);
    let what = match std::fs::metadata(&path) {
        Ok(file) if file.len() > 0 => return None,
        Ok(_) => "is empty",
        Err(_) => "is gone",
    };
    let before = if state_dir.join(ids::NODE_ID).exists() {
        "this host ran ovagent before".to_owned()
    } else if !evidence.is_empty() {
        let (networks, sandboxes) = (evidence.networks.len(), evidence.sandboxes.len());
        format!("this host has {networks} networks and {sandboxes} sandboxes of ovnet in its kernel")
    } else {
        return None;
    };
    Some(format!("the store file {} {what}, but {before}", path.display()))
}

async fn begin_anew(state_dir: &Path, why: &str) -> Result<()> {
    let (anew, path) = (state_dir.join(ANEW_FILE), state_dir.join(STORE_FILE));
    // Of an earlier try that was killed.
    drop(std::fs::remove_file(&anew));
    let embedded = Embedded::open(Some(&anew)).with_context(|| format!("cannot make {}", anew.display()))?;
    Store::embedded(&embedded)
        .commit(Commit::new().put(Key::Identity(Identity::Lost), why.to_owned()))
        .await?;
    drop(embedded);
    std::fs::rename(&anew, &path).with_context(|| format!("cannot make {}", path.display()))
}

/// Serve the embedded store to others as soon as this host itself believes it, until stopped.
pub(super) async fn serve(
    embedded: Embedded,
    (mut listener, at): (TcpListener, SocketAddr),
    world: Arc<World>,
    machine: Arc<dyn Machine>,
    stop: CancellationToken,
) -> Result<()> {
    let believed = world.reached(Revisions::default());
    tokio::pin!(believed);
    if tokio::time::timeout(BELIEVED, &mut believed).await.is_err() {
        // A port that nobody serves is better closed.
        drop(listener);
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = believed => {}
        }
        listener = loop {
            match listen(at, &*machine).await {
                Ok(listener) => break listener,
                Err(error) => tracing::error!("{error:#}"),
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(PORT_AGAIN) => {}
            }
        };
    }
    Ok(embedded.serve(listener, stop).await?)
}

/// The cluster's store as configured.
pub(super) fn etcd(config: &Config) -> Result<Store> {
    let StoreConfig::Etcd(endpoints) = &config.store else { bail!("the store is not etcd") };
    let tls = config.store_tls.as_ref().map(|tls| TlsPaths {
        ca: tls.ca.clone(),
        cert: tls.identity.as_ref().map(|(cert, _)| cert.clone()),
        key: tls.identity.as_ref().map(|(_, key)| key.clone()),
    });
    let user = match &config.store_login {
        None => None,
        Some(login) => {
            let file = &login.password_file;
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the store's password file {}", file.display()))?;
            Some((login.user.clone(), text.lines().next().unwrap_or_default().to_owned()))
        }
    };
    let endpoints = endpoints.iter().map(ToString::to_string).collect();
    Ok(Store::etcd(&EtcdConfig { endpoints, tls, user })?)
}

/// The TCP ports of a store that lets in whoever reaches it: sandboxes must not, on any node. One that asks for a certificate or
/// a password is its operator's to open, to sandboxes too.
pub(super) fn guarded_ports(config: &Config) -> BTreeSet<u16> {
    let asks =
        config.store_login.is_some() || config.store_tls.as_ref().is_some_and(|tls| tls.identity.is_some());
    match &config.store {
        StoreConfig::Serve { port } => [*port].into(),
        StoreConfig::Etcd(endpoints) if !asks => endpoints.iter().map(|endpoint| endpoint.port).collect(),
        StoreConfig::Etcd(_) | StoreConfig::Local => BTreeSet::new(),
    }
}

/// At one address only: what else the host is reached by, its bridges for sandboxes included, is no way to the store.
async fn listen(at: SocketAddr, machine: &dyn Machine) -> Result<TcpListener> {
    match TcpListener::bind(at).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!(
                "cannot serve the store: {}",
                machine.in_use(Protocol::Tcp, at.port(), "--store serve:PORT")
            )
        }
        bound => bound.with_context(|| format!("cannot serve the store at {at} (TCP)")),
    }
}
