//! The command line, made from the table of settings; man page and completions come from it too.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, builder::ValueParser, value_parser};

use super::{
    DEFAULT_FILE,
    key::{self, Key},
};

const ABOUT: &str = "The per-host agent of ovnet: overlay networks for plain Linux hosts";

const LONG_ABOUT: &str = "\
The per-host agent of ovnet. It gives processes, containers and virtual machines on many hosts isolated layer-2 networks \
over VXLAN. Run one on each host, as root, and drive it with ovctl.

Stopping, killing or upgrading an agent never touches traffic: what it has programmed stays. `ovagent cleanup` is what \
removes it.";

const AFTER: &str = "\
Every setting is a flag, an environment variable and a key of the configuration file. A flag overrides the \
variable, the variable the file, and the file the default. In the file a key has the flag's name without the \
dashes:

  # /etc/ovnet/agent.toml
  advertise = \"eth1\"
  store = \"etcd://192.0.2.10:2379,192.0.2.11:2379\"
  default-address-pool = [\"10.64.0.0/10,size=24\"]

Settings that can be given more than once are arrays in the file, and separated by blanks in a variable.";

/// The flag of `cleanup`.
pub(super) const FORCE: &str = "force";

const CLEANUP: &str = "\
Removes every object that agents with these directories have made on this host (namespaces, devices, routes, \
nftables rules, files of sandboxes, the state with the embedded store) and leaves the host as it was before the first \
start. With --store serve this deletes the store of the whole cluster and needs --force; with etcd, this \
node's records are removed from it, if it can be reached. Traffic of its networks stops. Foreign objects are \
not touched. Stop the agent on these directories first.";

/// The command line of `ovagent`.
pub fn command() -> Command {
    let force = Arg::new(FORCE)
        .long(FORCE)
        .action(ArgAction::SetTrue)
        .help("Clean up even if this host serves the store of a cluster; the cluster loses its networks");
    let cleanup = Command::new("cleanup")
        .about("Remove everything that the agent made on this host")
        .long_about(CLEANUP)
        .arg(force);
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help_heading(key::STATE_DIR.heading)
        .help(format!(
            "Configuration file (TOML); a file given here must exist [default: {DEFAULT_FILE}, if it exists] \
             [env: OVNET_CONFIG]"
        ));
    Command::new("ovagent")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER)
        .disable_help_subcommand(true)
        .args(key::ALL.iter().map(argument))
        .arg(config)
        .subcommand(cleanup)
}

/// Every value is taken as text, so that all mistakes can be told at once.
fn argument(key: &Key) -> Arg {
    let default = key.default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
    let argument = Arg::new(key.name).long(key.name);
    let argument = match key.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    argument
        .value_name(key.value)
        .value_parser(ValueParser::string())
        .action(if key.many { ArgAction::Append } else { ArgAction::Set })
        .global(true)
        .help_heading(key.heading)
        .help(format!("{}{default} [env: {}]", key.help, key.variable()))
}
