//! Ports that a firewall closes between hosts.

use std::time::Duration;

use anyhow::{Result, ensure};
use ovnet_integration::lab::{From, Lab};

use crate::{close_port, logged, logged_once, open_port, wait_quiet, wait_warning, warnings};

/// Three tries, five seconds apart, after up to half a minute of contentment.
const TUNNEL: Duration = Duration::from_secs(60);
/// Detection by gossip, then the lease's time and a margin.
const GOSSIP: Duration = Duration::from_secs(60);

pub(crate) fn vxlan(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "--internal", "net"])?;
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    let to = h2.address("net", "b")?;
    ensure!(h1.ping(From::Sandbox("a"), &to, 2)?.none(), "no way before");
    close_port(h2, 4789)?;
    wait_warning(h1, &["node h2", "4789", "10.77.0.1", "10.77.0.2", "network net"], TUNNEL)?;
    // What h2 sends arrives, and the answers do not: it cannot tell the one from the other.
    wait_warning(h2, &["node h1", "4789", "10.77.0.1", "10.77.0.2"], TUNNEL)?;
    ensure!(h1.ping(From::Sandbox("a"), &to, 1)?.all(), "it is a false alarm");
    open_port(h2)?;
    for host in [h1, h2] {
        wait_quiet(host, Duration::from_secs(15))?;
        logged_once(host, &["WARN", "through the tunnel"])?;
        logged_once(host, &["INFO", "the tunnel to it works again"])?;
    }
    ensure!(h1.ping(From::Sandbox("a"), &to, 2)?.none(), "no way after");
    ensure!(warnings(h3)?.is_empty(), "h3 has nothing of the network");
    // The network goes at once: nothing holds its namespace for long.
    h1.ovctl_ok(&["sandbox", "rm", "a"])?;
    h2.ovctl_ok(&["sandbox", "rm", "b"])?;
    h1.ovctl_ok(&["network", "rm", "net"])?;
    wait_quiet(h1, Duration::from_secs(15))
}

pub(crate) fn gossip(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    let to = h2.address("net", "b")?;
    close_port(h2, 7946)?;
    // Its goodbye is heard, and its return is not: it has left, for all that gossip knows.
    h2.stop_agent()?;
    h2.start_agent()?;
    h2.wait_ready()?;
    h3.kill9_agent();
    wait_warning(h1, &["node h2", "UDP port 7946", "10.77.0.1:7946", "10.77.0.2:7946"], GOSSIP)?;
    wait_warning(h2, &["node h1", "UDP port 7946"], GOSSIP)?;
    ensure!(h1.ping(From::Sandbox("a"), &to, 3)?.none(), "traffic needs no gossip");
    let table = h1.ovctl_ok(&["node", "ls"])?.stdout;
    ensure!(table.lines().any(|line| line.contains("h2") && !line.contains("alive")), "{table}");
    open_port(h2)?;
    for host in [h1, h2] {
        wait_quiet(host, Duration::from_secs(40))?;
        logged_once(host, &["INFO", "gossip reaches it again"])?;
    }
    logged_once(h1, &["WARN", "node h2", "7946"])?;
    let h3_told = logged(h1, &["WARN", "node h3", "7946"]);
    ensure!(h3_told.is_empty(), "a dead agent is taken for a closed port: {h3_told:?}");
    Ok(())
}
