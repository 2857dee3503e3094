//! The agent's configuration: flags, environment variables and a TOML file, in this order of precedence, then
//! defaults.
//!
//! One table (`key`) has every setting; the command line, the names of the environment variables, the keys of the
//! file and the help come from it. Every value is read from its text, and all mistakes are reported at once.

mod address;
mod bridge;
mod command;
mod file;
mod key;
mod mistake;
mod resolver;
mod settings;
mod store;
mod text;

use std::{ffi::OsString, net::IpAddr, path::PathBuf, time::Duration};

pub use address::{Advertise, HostPort};
pub use bridge::{BridgeConfig, BridgeLink};
pub use command::command;
pub use mistake::{ConfigError, ConfigErrors, LoadError, Source};
pub use store::{StoreConfig, StoreLogin, StoreTls};

use crate::{
    ipam::Pool,
    model::{DnsChoice, IfName, Name},
};

/// Where the configuration file is unless told.
pub const DEFAULT_FILE: &str = "/etc/ovnet/agent.toml";

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Run the agent.
    Run,
    /// Remove every object of ours from this host, and leave.
    Cleanup {
        /// Also the store that this host serves to others.
        force: bool,
    },
}

/// The whole configuration of an agent, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What to do.
    pub verb: Verb,
    /// The node's name; `None` is the host's name.
    pub node_name: Option<Name>,
    /// Which address the other nodes reach us at.
    pub advertise: Advertise,
    /// Where global state lives.
    pub store: StoreConfig,
    /// TLS towards the store; `None` is plain TCP.
    pub store_tls: Option<StoreTls>,
    /// User and password for the store; `None` is anonymous.
    pub store_login: Option<StoreLogin>,
    /// Nodes to gossip with first, besides those that the store names.
    pub join: Vec<HostPort>,
    /// Kept over restarts: identity, embedded store.
    pub state_dir: PathBuf,
    /// Gone after a reboot: socket, files of sandboxes.
    pub run_dir: PathBuf,
    /// Where named network namespaces are.
    pub netns_dir: PathBuf,
    /// The mount namespace in which they get their names; `None` is the agent's own.
    pub mount_namespace: Option<PathBuf>,
    /// UDP port of the gossip.
    pub gossip_port: u16,
    /// UDP port of the VXLAN devices.
    pub vxlan_port: u16,
    /// Where automatic subnets come from; at least one.
    pub pools: Vec<Pool>,
    /// What to log: a level, or directives as tracing's `EnvFilter` reads them.
    pub log_level: String,
    /// Group that may use the API's socket; `None` is only root.
    pub api_group: Option<String>,
    /// How long the store keeps our `alive` record without a sign of life.
    pub lease_ttl: Duration,
    /// How long an attach waits for the other nodes to confirm.
    pub attach_deadline: Duration,
    /// Set the host's forwarding where a network needs it.
    pub ip_forward: bool,
    /// The network `bridge` of this host.
    pub bridge: BridgeConfig,
    /// Defaults for sandboxes' resolvers.
    pub dns: DnsChoice,
    /// The addresses of `host-gateway`; a family without one uses the sandbox's gateway.
    pub host_gateways: Vec<IpAddr>,
    /// Where files for named network namespaces are.
    pub netns_etc_dir: PathBuf,
}

/// The configuration from a command line (the program's name first), an environment and the file that they name.
///
/// # Errors
/// [`LoadError::Usage`] for what the command line's shape forbids, and for `--help` and `--version`, which it is up to
/// the caller to print; [`LoadError::Mistakes`] with everything that is wrong in flags, environment and file.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Config, LoadError> {
    let matches = command().try_get_matches_from(args)?;
    let verb = match matches.subcommand() {
        Some(("cleanup", cleanup)) => Verb::Cleanup { force: cleanup.get_flag(command::FORCE) },
        Some(_) | None => Verb::Run,
    };
    let mut settings = settings::Settings::collect(&matches, &environment);
    let config = assemble(verb, &mut settings);
    settings.mistakes().map(|()| config).map_err(LoadError::from)
}

fn assemble(verb: Verb, settings: &mut settings::Settings) -> Config {
    let gossip_port = settings.port(key::GOSSIP_PORT);
    let vxlan_port = settings.port(key::VXLAN_PORT);
    if gossip_port == vxlan_port && gossip_port != 0 {
        settings.mistake(key::GOSSIP_PORT, "the VXLAN devices use the same port; choose two different ports");
    }
    // After a mistake here what depends on the store is not to be blamed as well.
    let store = settings.required(key::STORE, StoreConfig::Etcd(Vec::new()), str::parse);
    let advertise = settings.optional(key::ADVERTISE, str::parse).unwrap_or(Advertise::Auto);
    if matches!(advertise, Advertise::Address(own) if own.is_loopback()) && store != StoreConfig::Local {
        let reason = format!("the other hosts of --store {store} cannot reach a loopback address");
        settings.mistake(key::ADVERTISE, &reason);
    }
    Config {
        verb,
        node_name: settings.optional(key::NODE_NAME, |text| {
            Name::parse("node name", text).map_err(|invalid| invalid.reason)
        }),
        advertise,
        store_tls: store::tls(settings, &store),
        store_login: store::login(settings, &store),
        store,
        join: settings.list(key::JOIN, |text| HostPort::parse(text, gossip_port)),
        state_dir: settings.path(key::STATE_DIR),
        run_dir: settings.path(key::RUN_DIR),
        netns_dir: settings.path(key::NETNS_DIR),
        mount_namespace: settings.optional(key::MOUNT_NAMESPACE, settings::parse_path),
        gossip_port,
        vxlan_port,
        pools: settings.list(key::POOL, |text| text.parse::<Pool>().map_err(|invalid| invalid.reason)),
        log_level: settings.required(key::LOG_LEVEL, String::new(), parse_log_level),
        api_group: settings.optional(key::API_GROUP, parse_word),
        lease_ttl: Duration::from_secs(settings.number(key::LEASE_TTL, 5, 3600)),
        attach_deadline: Duration::from_millis(settings.number(key::ATTACH_DEADLINE, 0, 60_000)),
        ip_forward: settings.required(key::IP_FORWARD, true, settings::parse_truth),
        bridge: bridge::read(settings),
        dns: resolver::read(settings),
        host_gateways: resolver::host_gateways(settings),
        netns_etc_dir: settings.path(key::NETNS_ETC_DIR),
    }
}

fn parse_log_level(text: &str) -> Result<String, String> {
    match tracing_subscriber::filter::EnvFilter::try_new(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        Ok(_) => Err("it is empty; expected error, warn, info, debug or trace".into()),
        Err(error) => Err(format!("expected error, warn, info, debug or trace, or directives ({error})")),
    }
}

/// A user or group name.
fn parse_word(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 255 && !text.contains(|c: char| c.is_control() || c == ':');
    if fits { Ok(text.to_owned()) } else { Err("expected a name of 1 to 255 characters without ':'".into()) }
}

#[cfg(test)]
mod tests;
