//! The embedded store: a server of the part of the etcd v3 API that we use, on a redb file or in memory.
//!
//! [`Store::embedded`](super::Store::embedded) calls it in process; [`Embedded::serve`] offers it to other nodes and to
//! etcdctl. Every transaction is one durable commit and one revision; a bounded history serves watches and old reads.
//!
//! `access` says what a client sees, `engine` has the database, `batch` one write, `view` the reads, `leases` the clocks; `kv`, `watch`, `lease` and
//! `maintenance` are the gRPC services on top.

mod access;
mod batch;
mod engine;
mod expiry;
mod fault;
mod file;
mod head;
mod kv;
mod lease;
mod leases;
mod maintenance;
mod record;
#[cfg(test)]
mod reference;
mod service;
mod txn;
mod view;
mod watch;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use etcd_client::proto::{PbKvServer, PbLeaseServer, PbMaintenanceServer, PbWatchServer};
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, codegen::http, service::Routes};
use tower::{ServiceExt, util::BoxCloneSyncService};

use access::Access;
use engine::Engine;
use service::Service;

/// What is kept, and how much one request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Revisions that watches and old reads can go back.
    pub history_revisions: i64,
    /// Bytes that this history may take.
    pub history_bytes: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { history_revisions: 10_000, history_bytes: 16 << 20 }
    }
}

/// Why an embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another process has it open.
    #[error("the store file {} is in use by another process: does another agent run on this state directory?", .0.display())]
    InUse(PathBuf),
    /// It cannot be opened or made, or is not our file.
    #[error("cannot open the store file {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// The server could not go on.
    #[error("the embedded store's server stopped")]
    Serve(#[source] tonic::transport::Error),
}

/// An embedded store. Cheap to clone; the file is closed when the last clone, and the last store on it, is gone.
#[derive(Clone)]
pub struct Embedded {
    engine: Arc<Engine>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("revision", &self.engine.revision()).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in the file `path`, making it if need be; in memory without a path. Leases begin anew with
    /// their full time. Blocks for the time of a few disk writes.
    ///
    /// # Errors
    /// The file is in use, cannot be read or written, or is no store.
    pub fn open(path: Option<&Path>) -> Result<Self, EmbeddedError> {
        Self::open_with(path, Limits::default())
    }

    /// The same, with other limits.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: Option<&Path>, limits: Limits) -> Result<Self, EmbeddedError> {
        Ok(Self { engine: Arc::new(Engine::open(path, limits)?) })
    }

    /// Lets leases expire, until `stop`. Without it running, they live for ever.
    pub async fn tend(self, stop: CancellationToken) {
        expiry::tend(self.engine, stop).await;
    }

    /// Serves other nodes, and etcdctl, on `listener` until `stop`; then ends open watches and returns. They see the keys
    /// that all nodes share, and no others.
    ///
    /// # Errors
    /// The listener failed.
    pub async fn serve(
        self,
        listener: tokio::net::TcpListener,
        stop: CancellationToken,
    ) -> Result<(), EmbeddedError> {
        service::serve(self.engine, listener, stop).await
    }

    /// The services as a function, for a client in this process.
    pub(super) fn channel(&self) -> BoxCloneSyncService<Call, Answer, tower::BoxError> {
        // A client that is gone drops its streams with it: nothing has to stop them.
        let service = Service::new(Arc::clone(&self.engine), Access::All, CancellationToken::new());
        let routes = routes(service).prepare();
        BoxCloneSyncService::new(ServiceExt::<Call>::map_err(routes, |never| match never {}))
    }
}

type Call = http::Request<Body>;
type Answer = http::Response<Body>;

fn routes(service: Service) -> Routes {
    Routes::new(PbKvServer::new(service.clone()))
        .add_service(PbWatchServer::new(service.clone()))
        .add_service(PbLeaseServer::new(service.clone()))
        .add_service(PbMaintenanceServer::new(service))
}
