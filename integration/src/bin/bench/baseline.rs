//! The same data path made by hand between the lab's hosts: br0, a tuned VXLAN device, static rows, a veth.
//!
//! No host leg, no agent: what the kernel can do. Beside the agent's networks, on a UDP port of its own.

use anyhow::Result;
use ovnet_integration::lab::{Host, Lab};

/// The namespace of the far end on each host.
pub(crate) const SANDBOX: &str = "base-box";
/// The namespace with bridge and VXLAN device.
const NETWORK: &str = "base";

/// Bridged frames meet no iptables rules; where br_netfilter is not loaded there is nothing to switch off.
const NO_BRIDGE_NF: &str =
    "for f in /proc/sys/net/bridge/bridge-nf-call-*tables; do test ! -e $f || echo 0 > $f; done";

/// Its address on host `number`.
pub(crate) fn address(number: usize) -> String {
    format!("10.200.0.{number}")
}

fn mac(number: usize) -> String {
    format!("02:00:0a:c8:00:{number:02x}")
}

/// Make it on both hosts.
pub(crate) fn build(lab: &Lab) -> Result<()> {
    for (index, host) in lab.hosts.iter().enumerate() {
        half(lab, host, index + 1)?;
    }
    Ok(())
}

fn half(lab: &Lab, host: &Host, number: usize) -> Result<()> {
    let local = host.address_v4();
    let (own_mac, own) = (mac(number), address(number));
    let vxlan = format!("id 9000 dstport 4790 local {local} ttl 64 nolearning proxy noudpcsum");
    let mut lines = vec![
        format!("ip netns add {NETWORK}; ip netns add {SANDBOX}"),
        // Born on the host, where its UDP socket stays.
        format!("ip link add base0 type vxlan {vxlan}; ip link set base0 netns {NETWORK} name vxlan0"),
        format!("ip -n {NETWORK} link add br0 type bridge mcast_snooping 0 forward_delay 0"),
        format!("ip netns exec {NETWORK} sh -c '{NO_BRIDGE_NF}'"),
        format!("ip -n {NETWORK} link set br0 mtu 1450 up"),
        format!("ip -n {NETWORK} link add ep type veth peer name eth0 address {own_mac} netns {SANDBOX}"),
    ];
    for link in ["vxlan0", "ep"] {
        lines.push(format!("ip -n {NETWORK} link set {link} mtu 1450 master br0 up"));
        lines.push(format!("bridge -n {NETWORK} link set dev {link} learning off"));
    }
    lines.push(format!("ip -n {SANDBOX} link set lo up; ip -n {SANDBOX} link set eth0 mtu 1450 up"));
    lines.push(format!("ip -n {SANDBOX} address add {own}/24 dev eth0"));
    lines.push(format!("bridge -n {NETWORK} fdb replace {own_mac} dev ep master static"));
    for (index, peer) in lab.hosts.iter().enumerate().filter(|(index, _peer)| index + 1 != number) {
        let (mac, to, vtep) = (mac(index + 1), address(index + 1), peer.address_v4());
        lines.push(format!("ip -n {NETWORK} neigh add {to} lladdr {mac} dev vxlan0 nud permanent"));
        lines.push(format!("bridge -n {NETWORK} fdb add {mac} dev vxlan0 self permanent dst {vtep}"));
        lines.push(format!("bridge -n {NETWORK} fdb add {mac} dev vxlan0 master static"));
    }
    host.exec_ok(&["sh", "-e", "-c", &lines.join("\n")])?;
    Ok(())
}
