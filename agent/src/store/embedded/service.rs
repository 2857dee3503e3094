//! What the gRPC services share, and how they are offered on a socket.

use std::{sync::Arc, time::Duration};

use etcd_client::proto::PbResponseHeader;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::{EmbeddedError, access::Access, engine::Engine, routes};

/// Streams that one connection may have open.
const STREAMS_MAX: u32 = 1024;
/// Pings that find out whether a client is still there, and how long their answer may take.
const PING: Duration = Duration::from_secs(10);
/// How long open connections may hold up a shutdown.
const FAREWELL: Duration = Duration::from_millis(400);

/// The state of every service.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) engine: Arc<Engine>,
    /// What its clients see.
    pub(super) access: Access,
    /// Ends the streams.
    pub(super) stop: CancellationToken,
}

impl Service {
    pub(super) fn new(engine: Arc<Engine>, access: Access, stop: CancellationToken) -> Self {
        Self { engine, access, stop }
    }

    /// The header of an answer that shows `revision`.
    #[expect(clippy::unnecessary_wraps, reason = "the messages have it as an option")]
    pub(super) fn header(&self, revision: i64) -> Option<PbResponseHeader> {
        Some(self.engine.header(revision))
    }
}

pub(super) async fn serve(
    engine: Arc<Engine>,
    listener: tokio::net::TcpListener,
    stop: CancellationToken,
) -> Result<(), EmbeddedError> {
    let server = Server::builder()
        .tcp_nodelay(true)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .add_routes(routes(Service::new(engine, Access::Served, stop.clone())))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return ended.map_err(EmbeddedError::Serve),
        () = stop.cancelled() => {}
    }
    // A client that does not let go of its connection is left behind.
    timeout(FAREWELL, server).await.unwrap_or(Ok(())).map_err(EmbeddedError::Serve)
}
