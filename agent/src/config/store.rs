//! The store of the configuration.

use std::{fmt, path::PathBuf, str::FromStr};

use super::{
    HostPort,
    key::{self, Key},
    parse_word,
    settings::{Settings, parse_path},
};

/// Port of etcd for clients.
const ETCD_PORT: u16 = 2379;
/// Most endpoints of a store.
const MAX_ENDPOINTS: usize = 16;

/// Where global state lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In our embedded store, only for this host.
    Local,
    /// In our embedded store, served to others on this port.
    Serve {
        /// TCP port, 2379 unless given.
        port: u16,
    },
    /// In etcd, or in the embedded store of an agent that serves; at least one endpoint.
    Etcd(Vec<HostPort>),
}

impl FromStr for StoreConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "expected local, serve, serve:PORT or etcd://HOST:PORT[,HOST:PORT]…";
        if let Some(endpoints) = text.strip_prefix("etcd://") {
            let endpoints: Vec<HostPort> = endpoints
                .trim_end_matches('/')
                .split(',')
                .map(|one| HostPort::parse(one, ETCD_PORT).map_err(|reason| format!("{one:?}: {reason}")))
                .collect::<Result<_, _>>()?;
            return if endpoints.len() <= MAX_ENDPOINTS {
                Ok(Self::Etcd(endpoints))
            } else {
                Err(format!("at most {MAX_ENDPOINTS} endpoints are allowed"))
            };
        }
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local),
            None if text == "serve" => Ok(Self::Serve { port: ETCD_PORT }),
            Some(("serve", port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                port.map(|port| Self::Serve { port })
                    .ok_or_else(|| "expected a port from 1 to 65535 after serve:".into())
            }
            Some(("http" | "https", _)) => {
                Err(format!("{shape}; TLS is turned on with --store-ca, not by the scheme"))
            }
            Some(_) | None => Err(shape.into()),
        }
    }
}

impl fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Serve { port } => write!(f, "serve:{port}"),
            Self::Etcd(endpoints) => {
                let endpoints: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
                write!(f, "etcd://{}", endpoints.join(","))
            }
        }
    }
}

/// TLS towards the store; at least one of the two is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreTls {
    /// File with the authorities; none: those of the system.
    pub ca: Option<PathBuf>,
    /// Files with our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Who we are for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreLogin {
    /// The user.
    pub user: String,
    /// File whose first line is the password.
    pub password_file: PathBuf,
}

pub(super) fn tls(settings: &mut Settings, store: &StoreConfig) -> Option<StoreTls> {
    let ca = settings.optional(key::STORE_CA, parse_path);
    let identity = pair(settings, (key::STORE_CERT, parse_path), (key::STORE_KEY, parse_path));
    refuse_without_etcd(settings, store, &[key::STORE_CA, key::STORE_CERT, key::STORE_KEY]);
    (ca.is_some() || identity.is_some()).then_some(StoreTls { ca, identity })
}

pub(super) fn login(settings: &mut Settings, store: &StoreConfig) -> Option<StoreLogin> {
    let both = pair(settings, (key::STORE_USER, parse_word), (key::STORE_PASSWORD_FILE, parse_path));
    refuse_without_etcd(settings, store, &[key::STORE_USER, key::STORE_PASSWORD_FILE]);
    both.map(|(user, password_file)| StoreLogin { user, password_file })
}

/// Two settings of which each needs the other.
fn pair<A, B>(
    settings: &mut Settings,
    first: (Key, impl Fn(&str) -> Result<A, String>),
    second: (Key, impl Fn(&str) -> Result<B, String>),
) -> Option<(A, B)> {
    for (key, other) in [(first.0, second.0), (second.0, first.0)] {
        if settings.given(key) && !settings.given(other) {
            settings.mistake(key, &format!("it needs --{} too", other.name));
        }
    }
    let first = settings.optional(first.0, first.1);
    let second = settings.optional(second.0, second.1);
    first.zip(second)
}

fn refuse_without_etcd(settings: &mut Settings, store: &StoreConfig, keys: &[Key]) {
    let etcd = match store {
        StoreConfig::Etcd(_) => true,
        StoreConfig::Local | StoreConfig::Serve { .. } => false,
    };
    for key in keys {
        if !etcd && settings.given(*key) {
            settings.mistake(*key, &format!("it is valid only with --store etcd://…; the store is {store}"));
        }
    }
}
