//! Steps that most tests start with: a network that every host knows, sandboxes on it, and their addresses.

use std::time::Duration;

use anyhow::{Context, Result};
use ovnet_proto::v1 as ov;

use super::{Host, Lab};
use crate::{
    api,
    wait::{Poll, wait_for},
};

/// How long the news of a network may take to reach a host.
const NEWS: Duration = Duration::from_secs(10);

impl Lab {
    /// Create a network on the first host with these arguments, the name last, and wait until every host knows it.
    ///
    /// # Errors
    /// It is refused, or a host does not hear of it in time.
    pub fn create_network(&self, args: &[&str]) -> Result<String> {
        let name = args.last().context("a network without a name")?;
        let mut command = vec!["network", "create"];
        command.extend_from_slice(args);
        let id = self.host(1)?.ovctl_ok(&command)?.text().to_string();
        for host in &self.hosts {
            host.wait_network(name)?;
        }
        Ok(id)
    }
}

impl Host {
    /// Wait until this host's agent knows the network.
    ///
    /// # Errors
    /// It does not in time.
    pub fn wait_network(&self, name: &str) -> Result<()> {
        let api = self.api()?;
        wait_for(&format!("network {name} on {}", self.name), NEWS, || match api.network(name) {
            Ok(_network) => Ok(Poll::Ready(())),
            Err(error) => Ok(Poll::Pending(format!("{error:#}"))),
        })
    }

    /// A sandbox's name with the host's: endpoints have the names of their sandboxes, unique in a network.
    pub fn own(&self, name: &str) -> String {
        format!("{name}-{}", self.name)
    }

    /// Create a sandbox on these networks (`NET[:ip=A]`).
    ///
    /// # Errors
    /// It is refused.
    pub fn create_sandbox(&self, name: &str, networks: &[&str]) -> Result<()> {
        let mut args = vec!["sandbox", "create"];
        for network in networks {
            args.extend(["--network", network]);
        }
        args.push(name);
        self.ovctl_ok(&args).map(|_done| ())
    }

    /// The endpoint of one of this host's sandboxes on a network.
    ///
    /// # Errors
    /// There is none.
    pub fn endpoint(&self, network: &str, sandbox: &str) -> Result<ov::Endpoint> {
        let version = self.api()?.version()?;
        let detail = self.api()?.network(network)?;
        let ours =
            |endpoint: &ov::Endpoint| endpoint.sandbox == sandbox && endpoint.node_id == version.node_id;
        detail
            .endpoints
            .into_iter()
            .find(ours)
            .with_context(|| format!("no endpoint of {sandbox} on {network} on {}", self.name))
    }

    /// The IPv4 address of one of this host's sandboxes on a network.
    ///
    /// # Errors
    /// It has none.
    pub fn address(&self, network: &str, sandbox: &str) -> Result<String> {
        self.address_of(network, sandbox, false)
    }

    /// Its IPv6 address.
    ///
    /// # Errors
    /// It has none.
    pub fn address6(&self, network: &str, sandbox: &str) -> Result<String> {
        self.address_of(network, sandbox, true)
    }

    fn address_of(&self, network: &str, sandbox: &str, ipv6: bool) -> Result<String> {
        let endpoint = self.endpoint(network, sandbox)?;
        api::address(&endpoint, ipv6).with_context(|| format!("{sandbox} has no such address: {endpoint:?}"))
    }

    /// Wait until the kernel has what is desired: `ovctl diff` is empty.
    ///
    /// # Errors
    /// It is not in time; with what differs.
    pub fn wait_in_sync(&self) -> Result<()> {
        let api = self.api()?;
        wait_for(&format!("{} to be in sync", self.name), Duration::from_secs(15), || {
            Ok(match api.diff() {
                Ok(lines) if lines.is_empty() => Poll::Ready(()),
                Ok(lines) => Poll::Pending(lines.join("\n")),
                Err(error) => Poll::Pending(format!("{error:#}")),
            })
        })
    }
}
