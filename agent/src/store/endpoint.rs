//! Where the store is: one client per endpoint, and what its failures mean.
//!
//! Each endpoint has a connection of its own, made when first used, so that a dead one costs a refused connection and
//! never stands in the way of a live one; etcd-client's own balancer keeps dead endpoints in rotation.

use std::{fmt, path::PathBuf, time::Duration};

use etcd_client::{Certificate, Channel, Client, ConnectOptions, Identity, TlsOptions};
use tokio::sync::OnceCell;
use tonic::Code;

use super::{Cause, Embedded, StoreError};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a connection with an open stream is pinged. etcd closes one that is pinged more often than every 5 s
/// (`--grpc-keepalive-min-time`), or at all when it has no stream.
const PING: Duration = Duration::from_secs(6);
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest TLS file, in bytes.
const PEM_MAX: usize = 1 << 20;

/// Where an etcd is, and how to be let in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `host:port` of its members; any one of them will do.
    pub endpoints: Vec<String>,
    /// With TLS, and with which files.
    pub tls: Option<TlsPaths>,
    /// User and password.
    pub user: Option<(String, String)>,
}

impl fmt::Debug for EtcdConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|(user, _secret)| user);
        let mut out = f.debug_struct("EtcdConfig");
        out.field("endpoints", &self.endpoints).field("tls", &self.tls).field("user", &user).finish()
    }
}

/// PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsPaths {
    /// The authority that signed the servers' certificates.
    pub ca: Option<PathBuf>,
    /// Our certificate, if the servers ask for one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// One way to the store.
pub(super) struct Endpoint {
    origin: Origin,
    client: OnceCell<Client>,
}

enum Origin {
    Etcd { endpoint: Box<tonic::transport::Endpoint>, user: Option<(String, String)> },
    Embedded(Embedded),
}

impl Endpoint {
    /// The endpoints of an etcd; nothing is connected yet.
    pub(super) fn etcd(config: &EtcdConfig) -> Result<Vec<Self>, StoreError> {
        if config.endpoints.is_empty() {
            return Err(StoreError::Config { what: "it is empty; expected host:port".into() });
        }
        let tls = config.tls.as_ref().map(read_tls).transpose()?;
        let make = |address: &String| {
            let endpoint = Box::new(remote(address, tls.clone())?);
            Ok(Self { origin: Origin::Etcd { endpoint, user: config.user.clone() }, client: OnceCell::new() })
        };
        config.endpoints.iter().map(make).collect()
    }

    /// The embedded server, called as a function: no socket, no HTTP.
    pub(super) fn embedded(server: &Embedded) -> Self {
        Self { origin: Origin::Embedded(server.clone()), client: OnceCell::new() }
    }

    /// The client of this endpoint. With a user, the first call logs in.
    pub(super) async fn client(&self) -> Result<Client, etcd_client::Error> {
        let connect = async || match &self.origin {
            Origin::Embedded(server) => Client::from_channel(Channel::Custom(server.channel()), None).await,
            Origin::Etcd { endpoint, user } => {
                // A member that has lost its leader says so instead of going quiet.
                let mut options =
                    ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
                if let Some((user, password)) = user {
                    options = options.with_user(user, password);
                }
                Client::from_channel(Channel::Tonic(endpoint.connect_lazy()), Some(options)).await
            }
        };
        self.client.get_or_try_init(connect).await.cloned()
    }
}

fn remote(address: &str, tls: Option<TlsOptions>) -> Result<tonic::transport::Endpoint, StoreError> {
    let wrong =
        |why: &str| StoreError::Config { what: format!("endpoint {address:?}: {why}; expected host:port") };
    let port = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    if port.is_none_or(|(host, port)| host.is_empty() || port == 0) || address.contains('/') {
        return Err(wrong("it is not a host with a port"));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = tonic::transport::Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|error| wrong(&error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false)
        .tcp_nodelay(true);
    match tls {
        None => Ok(endpoint),
        Some(tls) => endpoint.tls_config(tls).map_err(|error| StoreError::Config {
            what: format!("the TLS files do not match: {}", crate::model::chain(&error)),
        }),
    }
}

fn read_tls(paths: &TlsPaths) -> Result<TlsOptions, StoreError> {
    let Some(ca) = &paths.ca else {
        return Err(StoreError::Config {
            what: "TLS needs a CA file: give the certificate of the CA that signed the store's \
                   certificate"
                .into(),
        });
    };
    let options = TlsOptions::new().ca_certificate(Certificate::from_pem(read_pem("CA", ca)?));
    match (&paths.cert, &paths.key) {
        (None, None) => Ok(options),
        (Some(cert), Some(key)) => {
            Ok(options.identity(Identity::from_pem(read_pem("certificate", cert)?, read_pem("key", key)?)))
        }
        (Some(_), None) | (None, Some(_)) => Err(StoreError::Config {
            what: "a client certificate and its key belong together: give both, or none".into(),
        }),
    }
}

fn read_pem(role: &'static str, file: &PathBuf) -> Result<Vec<u8>, StoreError> {
    let text =
        std::fs::read(file).map_err(|source| StoreError::TlsFile { role, file: file.clone(), source })?;
    if text.len() > PEM_MAX || !text.windows(11).any(|part| part == b"-----BEGIN ") {
        return Err(StoreError::Config {
            what: format!("{role} file {}: it is not a PEM file", file.display()),
        });
    }
    Ok(text)
}

/// What a failure means for a request.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// It never left: another endpoint may be asked without a second thought.
    NotSent(Cause),
    /// It may have arrived, and may still be carried out.
    Lost(Cause),
    /// The server answered no.
    No(No),
}

/// The ways to say no.
#[derive(Debug)]
pub(super) enum No {
    Auth(Cause),
    LeaseGone,
    Compacted,
    TooLarge(String),
    Other(Cause),
}

impl CallFailure {
    /// The failure of something that had to come first, and changes nothing: logging in.
    pub(super) fn before_sending(self) -> Self {
        match self {
            Self::Lost(cause) | Self::NotSent(cause) => Self::NotSent(cause),
            Self::No(no) => Self::No(no),
        }
    }

    /// The failure in our terms for the caller, of a request that changes nothing and was `waited` for.
    pub(super) fn into_error(
        self,
        operation: &'static str,
        endpoints: String,
        waited: Duration,
    ) -> StoreError {
        match self {
            Self::NotSent(source) | Self::Lost(source) => {
                StoreError::Away { operation, endpoints, waited, source }
            }
            Self::No(No::Auth(source)) => StoreError::Auth { operation, endpoints, source },
            Self::No(No::LeaseGone) => StoreError::LeaseGone { operation, endpoints },
            Self::No(No::Compacted) => StoreError::Compacted { operation, endpoints },
            Self::No(No::TooLarge(what)) => StoreError::TooLarge { operation, what },
            Self::No(No::Other(source)) => StoreError::Refused { operation, endpoints, source },
        }
    }
}

impl From<etcd_client::Error> for CallFailure {
    fn from(error: etcd_client::Error) -> Self {
        use etcd_client::Error as E;
        match error {
            E::GRpcStatus(status) => status.into(),
            E::LeaseKeepAliveError(text) if text.contains("not found") => Self::No(No::LeaseGone),
            E::IoError(_) | E::TransportError(_) | E::WatchError(_) | E::LeaseKeepAliveError(_) => {
                Self::Lost(error.into())
            }
            E::InvalidArgs(_)
            | E::InvalidUri(_)
            | E::Utf8Error(_)
            | E::ElectError(_)
            | E::InvalidMetadataValue(_)
            | E::EndpointError(_)
            | E::EndpointsNotManaged
            | E::Internal(_) => Self::No(No::Other(error.into())),
        }
    }
}

impl From<tonic::Status> for CallFailure {
    fn from(status: tonic::Status) -> Self {
        let text = status.message().to_owned();
        let cause = words(&status);
        let says = |part: &str| text.contains(part);
        match status.code() {
            _ if never_connected(&status) => Self::NotSent(cause),
            Code::Unauthenticated | Code::PermissionDenied => Self::No(No::Auth(cause)),
            // etcd answers these with InvalidArgument or FailedPrecondition.
            _ if says("authentication") || says("user name is empty") => Self::No(No::Auth(cause)),
            Code::NotFound if says("lease not found") => Self::No(No::LeaseGone),
            Code::OutOfRange if says("compacted") => Self::No(No::Compacted),
            _ if says("too large") => Self::No(No::TooLarge(text)),
            Code::Unavailable
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Internal
            | Code::Aborted => Self::Lost(cause),
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss => Self::No(No::Other(cause)),
        }
    }
}

/// A status as a person would put it: its message, and the first cause of all.
fn words(status: &tonic::Status) -> Cause {
    let mut text = status.message().to_owned();
    let mut root = std::error::Error::source(status);
    while let Some(deeper) = root.and_then(std::error::Error::source) {
        root = Some(deeper);
    }
    if let Some(root) = root.map(ToString::to_string).filter(|root| !text.contains(root)) {
        text = if text.is_empty() { root } else { format!("{text}: {root}") };
    }
    text.into()
}

/// Whether the request failed because no connection came about.
fn never_connected(status: &tonic::Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
