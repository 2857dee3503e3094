//! Stores to test on: the embedded one in this process, in memory and on disk, the same served by a process of its own,
//! and a real etcd; and a proxy that loses connections at the worst moment.

#![allow(dead_code, reason = "every test binary takes what it needs")]

pub(crate) mod child;
pub(crate) mod proxy;

use std::{future::Future, net::SocketAddr, time::Duration};

use ovagent::{
    model::{EndpointId, NetworkId, NodeId, Vni},
    store::{Change, Embedded, EtcdConfig, Key, KeyEvent, KeyRange, Store, StoreStatus, follow},
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use child::{EtcdProcess, ServedProcess};

/// How long anything may take before a test says what it waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `found` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let look = async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_elapsed| panic!("waited in vain: {what}"))
}

/// A port that nobody has right now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn etcd_store(address: SocketAddr) -> Store {
    Store::etcd(&EtcdConfig { endpoints: vec![address.to_string()], ..EtcdConfig::default() }).unwrap()
}

pub(crate) fn vni(number: u32) -> Key {
    Key::Vni(Vni::new(number).unwrap())
}

/// A key in the followed range.
pub(crate) fn endpoint(network: u8, number: u32) -> Key {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Key::Endpoint(NetworkId::from_bytes([network; 32]), EndpointId::from_bytes(id))
}

pub(crate) fn alive(number: u128) -> Key {
    Key::Alive(NodeId(uuid::Uuid::from_u128(number)))
}

/// A store under test.
pub(crate) struct Subject {
    /// How it is reached without a detour.
    pub(crate) store: Store,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    pub(crate) process: Process,
    _stop: DropGuard,
}

pub(crate) enum Process {
    /// None of its own.
    Here,
    Served(ServedProcess),
    Etcd(EtcdProcess),
}

impl Process {
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        match self {
            Self::Here => panic!("this store has no process of its own"),
            Self::Served(child) => child.child.signal(signal),
            Self::Etcd(child) => child.child.signal(signal),
        }
    }

    /// Kills it with -9.
    pub(crate) fn kill(&mut self) {
        match self {
            Self::Here => panic!("this store has no process of its own"),
            Self::Served(child) => child.child.kill(),
            Self::Etcd(child) => child.child.kill(),
        }
    }

    /// Starts it again on what it left.
    pub(crate) fn start(&mut self) {
        match self {
            Self::Here => panic!("this store has no process of its own"),
            Self::Served(child) => child.start(),
            Self::Etcd(child) => child.start(),
        }
    }
}

impl Subject {
    async fn here(server: Embedded) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(server.clone().tend(stop.clone()));
        tokio::spawn(server.clone().serve(listener, stop.clone()));
        Self { store: Store::embedded(&server), address, process: Process::Here, _stop: stop.drop_guard() }
    }

    /// The embedded store in memory.
    pub(crate) async fn memory() -> Self {
        Self::here(Embedded::open(None).unwrap()).await
    }

    /// The embedded store on disk. The directory goes when the test's process does not need the file any more.
    pub(crate) async fn disk() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Embedded::open(Some(&dir.path().join("store.redb"))).unwrap();
        // The open file outlives its name: nothing is left behind.
        drop(dir);
        Self::here(server).await
    }

    /// The embedded store, served by a process of its own.
    pub(crate) async fn served() -> Self {
        Self::of(|| {
            let process = ServedProcess::new();
            (process.address, Process::Served(process))
        })
        .await
    }

    /// A real etcd.
    pub(crate) async fn etcd() -> Self {
        Self::of(|| {
            let process = EtcdProcess::new(&[]);
            (process.address, Process::Etcd(process))
        })
        .await
    }

    async fn of(start: impl FnOnce() -> (SocketAddr, Process)) -> Self {
        let (address, process) = start();
        let store = etcd_store(address);
        let subject = Self { store, address, process, _stop: CancellationToken::new().drop_guard() };
        subject.up().await;
        subject
    }

    /// Waits until it answers.
    pub(crate) async fn up(&self) {
        eventually("the store answers", async || self.store.status().await.ok()).await;
    }
}

/// A running follower.
pub(crate) struct Following {
    pub(crate) changes: mpsc::Receiver<Change>,
    pub(crate) status: watch::Receiver<StoreStatus>,
    _stop: DropGuard,
}

impl Following {
    pub(crate) fn new(store: &Store, range: KeyRange) -> Self {
        let (out, changes) = mpsc::channel(1);
        let (tell, status) = watch::channel(StoreStatus::Starting);
        let stop = CancellationToken::new();
        tokio::spawn(follow(store.clone(), range, out, tell, stop.clone()));
        Self { changes, status, _stop: stop.drop_guard() }
    }

    pub(crate) async fn next(&mut self) -> Change {
        let next = tokio::time::timeout(PATIENCE, self.changes.recv()).await;
        next.unwrap_or_else(|_elapsed| panic!("no change came; the store is {:?}", *self.status.borrow()))
            .unwrap()
    }

    /// The next change, which must be events.
    pub(crate) async fn events(&mut self) -> (i64, Vec<KeyEvent>) {
        match self.next().await {
            Change::Events { revision, events } => (revision, events),
            snapshot @ Change::Snapshot(_) => panic!("expected events, got {snapshot:?}"),
        }
    }

    /// The next change, which must be a snapshot.
    pub(crate) async fn snapshot(&mut self) -> ovagent::store::Listing {
        match self.next().await {
            Change::Snapshot(listing) => listing,
            events @ Change::Events { .. } => panic!("expected a snapshot, got {events:?}"),
        }
    }

    pub(crate) async fn status(&mut self, what: &str, is: impl FnMut(&StoreStatus) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, self.status.wait_for(is)).await;
        drop(waited.unwrap_or_else(|_elapsed| panic!("the status never was {what}")).unwrap());
    }

    pub(crate) async fn connected(&mut self) {
        self.status("connected", |status| *status == StoreStatus::Connected).await;
    }

    pub(crate) async fn away(&mut self) {
        self.status("away", |status| matches!(status, StoreStatus::Away { .. })).await;
    }
}
