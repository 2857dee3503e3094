//! VXLAN packets from somebody who is no node, whole and in fragments.

use std::{net::IpAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    forge::{self, Packet},
    lab::{From, Host, Lab, OUTSIDE_V4},
    wait::wait_until,
};

use super::{count, counted};

/// In one piece; the second fragment has the frame; the VNI is not in the first fragment.
const SHAPES: [Option<usize>; 3] = [None, Some(24), Some(8)];
const PORT: u16 = 7777;
/// VNIs of the networks.
const INSIDE: u32 = 900;
const WIDE: u32 = 910;

/// Somebody's VXLAN packets into a network, for an endpoint that counts what reaches it.
struct Attack<'a> {
    host: &'a Host,
    vni: u32,
    mac: String,
    address: String,
}

impl<'a> Attack<'a> {
    /// On `sandbox` of `host`, in the overlay `network`.
    fn new(host: &'a Host, network: &str, sandbox: &str) -> Result<Self> {
        count(host, Some(sandbox), &format!("udp dport {PORT}"))?;
        Self::of(host, network, sandbox)
    }

    /// The same where it counts already.
    fn of(host: &'a Host, network: &str, sandbox: &str) -> Result<Self> {
        let endpoint = host.endpoint(network, sandbox)?;
        Ok(Self {
            host,
            vni: if network == "wide" { WIDE } else { INSIDE },
            mac: endpoint.mac,
            address: host.address(network, sandbox)?,
        })
    }

    fn packet(&self, vni: u32, from: IpAddr, to: IpAddr) -> Result<Packet> {
        let inner = ("10.70.0.66".parse()?, self.address.parse()?);
        Packet::udp((from, 40_000), (to, 4789), &forge::vxlan(vni, &self.mac, inner, PORT)?)
    }

    /// Send it in every shape, and once for a network that is not here.
    fn send(&self, netns: &Path, from: IpAddr, to: IpAddr) -> Result<()> {
        for shape in SHAPES {
            self.packet(self.vni, from, to)?.send(netns, shape, 0)?;
        }
        self.packet(self.vni + 1, from, to)?.send(netns, None, 0)
    }
}

fn vni(number: u32) -> String {
    format!("vni={number}")
}

fn underlay(host: &Host, v6: bool) -> Result<IpAddr> {
    let text = if v6 { host.address_v6() } else { host.address_v4() };
    text.parse().context("an address")
}

/// h3 has no agent at first. An internal network too: its host has no other rules.
pub(super) fn members(lab: &Lab) -> Result<()> {
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    let v6 = h1.agent_args().iter().any(|arg| arg.starts_with("fd77"));
    for host in [h1, h2] {
        host.start_agent()?;
        host.wait_ready()?;
    }
    h1.wait_nodes_alive(2)?;
    let create = |args: &[&str]| h1.ovctl_ok(&[&["network", "create"][..], args].concat());
    create(&["-d", "overlay", "--internal", "-o", &vni(INSIDE), "--subnet", "10.70.0.0/24", "inside"])?;
    create(&["-d", "overlay", "-o", &vni(WIDE), "--subnet", "10.71.0.0/24", "wide"])?;
    for (round, network) in ["inside", "wide"].into_iter().enumerate() {
        let sandbox = ["a", "b"][round];
        h1.create_sandbox(sandbox, &[network])?;
        let attack = Attack::new(h1, network, sandbox)?;
        let to = underlay(h1, v6)?;
        // What is not ours goes on to whoever has a socket there.
        count(h1, None, &format!("udp dport 4789 @th,96,24 {}", attack.vni + 1))?;
        attack.send(&h3.netns(), underlay(h3, v6)?, to)?;
        wait_until("the packet of another VNI", Duration::from_secs(2), || Ok(counted(h1, None)? == 1))?;
        ensure!(counted(h1, Some(sandbox))? == 0, "a stranger's packets reach {sandbox}");
        // A node's do: these are packets that would arrive.
        attack.packet(attack.vni, underlay(h2, v6)?, to)?.send(&h2.netns(), None, 0)?;
        wait_until("a node's packet", Duration::from_secs(2), || Ok(counted(h1, Some(sandbox))? == 1))?;
        h1.exec_ok(&["nft", "delete", "table", "inet", "lab"])?;
    }
    // Once it is a node.
    h3.start_agent()?;
    h3.wait_ready()?;
    h1.wait_nodes_alive(3)?;
    h3.create_sandbox("c", &["wide"])?;
    let attack = Attack::of(h1, "wide", "b")?;
    attack.packet(attack.vni, underlay(h3, v6)?, underlay(h1, v6)?)?.send(&h3.netns(), None, 0)?;
    wait_until("the new node's packet", Duration::from_secs(2), || Ok(counted(h1, Some("b"))? == 2))?;
    ensure!(h3.ping(From::Sandbox("c"), &attack.address, 3)?.none(), "no way from the new node");
    // Nodes stay nodes while the store is away, and the rules are made anew.
    lab.etcd()?.kill()?;
    h1.exec_ok(&["nft", "delete", "table", "inet", "ovnet"])?;
    wait_until("the rules to come back", Duration::from_secs(5), || {
        Ok(h1.exec(&["nft", "list", "table", "inet", "ovnet"])?.status.success())
    })?;
    attack.send(&lab.outside.netns(), OUTSIDE_V4.parse()?, underlay(h1, false)?)?;
    attack.packet(attack.vni, underlay(h3, v6)?, underlay(h1, v6)?)?.send(&h3.netns(), None, 0)?;
    wait_until("the node's packet", Duration::from_secs(2), || Ok(counted(h1, Some("b"))? == 3))
}

/// From sandboxes of the host itself and of another node, to every address of the two.
pub(super) fn sandboxes(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    lab.create_network(&["-d", "overlay", "-o", &vni(INSIDE), "--subnet", "10.70.0.0/24", "victim"])?;
    lab.create_network(&["-d", "overlay", "-o", &vni(WIDE), "--subnet", "10.71.0.0/24", "wide"])?;
    h1.create_sandbox("a", &["victim"])?;
    // h2 is in the victim's network too.
    h2.create_sandbox("b", &["victim"])?;
    let attack = Attack::new(h1, "victim", "a")?;
    for host in [h1, h2] {
        let names = ["evil", "worse"].map(|name| format!("{name}-{}", host.name));
        for (sandbox, network) in names.iter().map(String::as_str).zip(["wide", "bridge"]) {
            host.create_sandbox(sandbox, &[network])?;
            let from: IpAddr = host.address(network, sandbox)?.parse()?;
            let gateway: IpAddr = host
                .ovctl_ok(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network])?
                .text()
                .parse()?;
            // By its own address, and by that of a node.
            for source in [from, underlay(h2, false)?] {
                for to in [underlay(h1, false)?, underlay(h2, false)?, gateway] {
                    attack.send(&host.netns_of(From::Sandbox(sandbox)), source, to)?;
                }
            }
        }
    }
    // What was sent before this has arrived, or never will.
    ensure!(h2.ping(From::Sandbox("b"), &attack.address, 3)?.none(), "the network itself works");
    ensure!(counted(attack.host, Some("a"))? == 0, "a sandbox's packets reach another network");
    attack.packet(attack.vni, underlay(h2, false)?, underlay(h1, false)?)?.send(&h2.netns(), None, 0)?;
    wait_until("the host's own packet", Duration::from_secs(2), || Ok(counted(h1, Some("a"))? == 1))
}
