//! The connection to the agent.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use ovnet_proto::v1::agent_client::AgentClient;
use tokio::net::UnixStream;
use tonic::transport::{Endpoint, Uri};
use tower::service_fn;

use crate::{
    failure::{Failure, chain},
    patience::{Patient, Peer, READ},
};

/// A client of the agent.
pub(crate) type Agent = AgentClient<Patient>;

/// Where the agent listens unless told otherwise.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/ovnet/api.sock";
/// Pause before a connection is tried again when too many wait to be accepted.
const AGAIN: Duration = Duration::from_millis(50);
/// How long the agent may take to answer what changes something; an attachment waits for other nodes and for the store.
const ANSWER: Duration = Duration::from_secs(60);
/// Largest answer: room for 100,000 endpoints.
const MAX_ANSWER: usize = 64 << 20;

/// The address of an agent: `unix:///path` or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostAddress {
    socket: PathBuf,
}

impl HostAddress {
    /// The path of the socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl FromStr for HostAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text.is_empty() { DEFAULT_HOST } else { text };
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if !path.starts_with('/') {
            return Err(format!(
                "expected {DEFAULT_HOST} or another absolute path of a unix socket; an agent does not listen \
                 on anything else"
            ));
        }
        Ok(Self { socket: path.into() })
    }
}

/// Connects to the agent at `host`.
///
/// # Errors
/// [`Failure::Unreachable`], with the path, what is wrong and what to do.
pub(crate) async fn connect(host: &HostAddress) -> Result<Agent, Failure> {
    let path = host.socket();
    let mut peer = Peer::default();
    let stream = match peer.wait(READ, "", open(path)).await {
        Some(connected) => connected.map_err(|cause| unreachable(path, &cause))?,
        None => return Err(unreachable(path, &io::ErrorKind::TimedOut.into())),
    };
    peer.pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    // One connection serves one command: when it breaks, the command ends rather than asks twice.
    let mut stream = Some(TokioIo::new(stream));
    let connector = service_fn(move |_uri: Uri| {
        let next = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset));
        std::future::ready(next)
    });
    let endpoint = Endpoint::from_static("http://ovagent");
    let connected = endpoint.connect_with_connector(connector);
    let Some(channel) = peer.wait(READ, "", connected).await else {
        return Err(Failure::Unreachable(peer.silent(READ)));
    };
    let channel = channel.map_err(|cause| {
        Failure::Unreachable(format!("no answer from the agent at {}: {}", path.display(), chain(&cause)))
    })?;
    let patient = Patient { channel, peer, change: ANSWER };
    Ok(AgentClient::new(patient).max_decoding_message_size(MAX_ANSWER))
}

/// Connects, as soon as there is room in the queue of those who wait to be accepted.
async fn open(path: &Path) -> io::Result<UnixStream> {
    loop {
        match UnixStream::connect(path).await {
            Err(full) if full.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(AGAIN).await,
            connected => return connected,
        }
    }
}

fn unreachable(path: &Path, cause: &io::Error) -> Failure {
    let hints = [
        (io::ErrorKind::NotFound, "is ovagent running? systemctl status ovagent"),
        (io::ErrorKind::ConnectionRefused, "ovagent has stopped; systemctl status ovagent"),
        (io::ErrorKind::PermissionDenied, "run as root, or join the group that owns the socket"),
        (io::ErrorKind::TimedOut, "ovagent does not accept connections; systemctl status ovagent"),
    ];
    let hint = hints.iter().find(|(kind, _hint)| *kind == cause.kind()).map_or(
        "give the socket of a running agent with --host unix:///path or OVCTL_HOST",
        |(_kind, hint)| *hint,
    );
    let text = cause.to_string();
    // The number of the error tells people nothing.
    let text = text.split_once(" (os error ").map_or(text.as_str(), |(words, _number)| words);
    Failure::Unreachable(format!("cannot reach the agent at {}: {text}: {hint}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_unix_url_or_an_absolute_path() {
        let socket = |text: &str| text.parse::<HostAddress>().map(|host| host.socket);
        assert_eq!(socket("unix:///run/a.sock"), Ok("/run/a.sock".into()));
        assert_eq!(socket("/run/a.sock"), Ok("/run/a.sock".into()));
        assert_eq!(socket(""), Ok("/run/ovnet/api.sock".into()));
        for bad in ["tcp://10.0.0.1:1", "run/a.sock", "unix://run/a.sock"] {
            assert!(socket(bad).is_err(), "{bad}");
        }
    }
}
