//! The two stores: this node's own, and the cluster's, which may be the same.

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;

use crate::{
    config::{Config, StoreConfig},
    kernel::port,
    store::{Embedded, EtcdConfig, Store, TlsPaths},
};

/// What was opened.
pub(super) struct Stores {
    pub(super) embedded: Embedded,
    pub(super) local: Store,
    pub(super) global: Store,
    /// Where the embedded store is served to others.
    pub(super) listener: Option<TcpListener>,
}

/// Open both. A cluster's store that is away is no error: it is waited for.
pub(super) async fn open(config: &Config) -> Result<Stores> {
    let path = config.state_dir.join("store.redb");
    let embedded = Embedded::open(Some(&path))
        .context("no embedded store (if its file is damaged, ovagent cleanup lets this node start anew)")?;
    let local = Store::embedded(&embedded);
    let (global, listener) = match &config.store {
        StoreConfig::Local => (local.clone(), None),
        StoreConfig::Serve { port } => (local.clone(), Some(listen(*port).await?)),
        StoreConfig::Etcd(_) => (etcd(config)?, None),
    };
    Ok(Stores { embedded, local, global, listener })
}

/// The cluster's store as configured.
pub(super) fn etcd(config: &Config) -> Result<Store> {
    let StoreConfig::Etcd(endpoints) = &config.store else { bail!("the store is not an etcd") };
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

async fn listen(tcp: u16) -> Result<TcpListener> {
    // Both families where there are both.
    let bound = match TcpListener::bind(("::", tcp)).await {
        Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
            TcpListener::bind(("0.0.0.0", tcp)).await
        }
        bound => bound,
    };
    match bound {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("cannot serve the store: {}", port::in_use("tcp", tcp, "--store serve:PORT"))
        }
        bound => bound.with_context(|| format!("cannot serve the store on TCP port {tcp}")),
    }
}
