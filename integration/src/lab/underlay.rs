//! The underlay: namespaces, the switch, the router and the wires, as the picture in [`super`] has them.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::{
    Place,
    outside::{OUTSIDE_V4, OUTSIDE_V6},
};
use crate::program::Program;

/// The router's address on the underlay, and etcd's.
pub(super) const ROUTER_V4: &str = "10.77.0.254";
/// The same, IPv6.
pub(super) const ROUTER_V6: &str = "fd77::254";

/// The router's address on the second switch.
pub const LAN_ROUTER_V4: &str = "203.0.113.254";
/// The same, IPv6.
pub const LAN_ROUTER_V6: &str = "2001:db8:71::254";

/// Make all of it.
pub(super) fn build(place: &Place, hosts: u8, mtu: u32) -> Result<()> {
    let (sw, out) = (place.netns("sw"), place.netns("out"));
    let mut lines = vec![format!("netns add {sw}"), format!("netns add {out}")];
    lines.extend((1..=hosts).map(|n| format!("netns add {}", place.netns(&format!("h{n}")))));
    batch(None, &lines)?;

    let mut lines: Vec<String> = [
        "link set lo up",
        // No spanning tree, no snooping: a port forwards from the moment it is up.
        "link add br0 type bridge forward_delay 0 mcast_snooping 0",
        &format!("link set br0 mtu {mtu} up"),
        &format!("address add {ROUTER_V4}/24 dev br0"),
        &format!("address add {ROUTER_V6}/64 dev br0 nodad"),
        &format!("link add out type veth peer name eth0 netns {out}"),
        "link set out up",
        "address add 198.51.100.1/24 dev out",
        "address add 2001:db8:51::1/64 dev out nodad",
    ]
    .map(String::from)
    .to_vec();
    for n in 1..=hosts {
        let host = place.netns(&format!("h{n}"));
        lines.push(format!("link add h{n} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {host}"));
        lines.push(format!("link set h{n} master br0 up"));
    }
    router(&sw)?;
    batch(Some(&sw), &lines)?;

    edge(&out, [OUTSIDE_V4, OUTSIDE_V6], ["198.51.100.1", "2001:db8:51::1"])?;
    for n in 1..=hosts {
        let addresses = [address_v4(n), address_v6(n)];
        edge(
            &place.netns(&format!("h{n}")),
            addresses.each_ref().map(String::as_str),
            [ROUTER_V4, ROUTER_V6],
        )?;
    }
    Ok(())
}

/// Host `n`'s address.
pub(super) fn address_v4(n: u8) -> String {
    format!("10.77.0.{n}")
}

/// Host `n`'s IPv6 address.
pub(super) fn address_v6(n: u8) -> String {
    format!("fd77::{n}")
}

/// A second switch with the router on it, and `eth1` of every host: what macvlan links hang on. Its addresses are known
/// outside, unlike any that an agent gives.
pub(super) fn build_lan(place: &Place, hosts: u8) -> Result<()> {
    let sw = place.netns("sw");
    let mut lines: Vec<String> = [
        "link add br1 type bridge forward_delay 0 mcast_snooping 0",
        "link set br1 up",
        &format!("address add {LAN_ROUTER_V4}/24 dev br1"),
        &format!("address add {LAN_ROUTER_V6}/64 dev br1 nodad"),
    ]
    .map(String::from)
    .to_vec();
    for n in 1..=hosts {
        lines.push(format!(
            "link add lan{n} type veth peer name eth1 netns {}",
            place.netns(&format!("h{n}"))
        ));
        lines.push(format!("link set lan{n} master br1 up"));
    }
    batch(Some(&sw), &lines)?;
    for n in 1..=hosts {
        let host = place.netns(&format!("h{n}"));
        sysctl(&host, &["net.ipv6.conf.eth1.accept_dad=0"])?;
        batch(
            Some(&host),
            &[
                "link set eth1 up".into(),
                format!("address add 203.0.113.{n}/24 dev eth1"),
                format!("address add 2001:db8:71::{n}/64 dev eth1 nodad"),
            ],
        )?;
    }
    Ok(())
}

/// Remove the namespaces; the links go with them.
pub(super) fn remove(place: &Place) -> Result<()> {
    let prefix = place.netns("");
    let mut lines = Vec::new();
    for entry in fs::read_dir("/run/netns").context("list /run/netns")? {
        let name = entry.context("list /run/netns")?.file_name();
        if let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) {
            lines.push(format!("netns del {name}"));
        }
    }
    batch(None, &lines)
}

/// Addresses and default routes of a namespace with one wire.
fn edge(netns: &str, [v4, v6]: [&str; 2], [via4, via6]: [&str; 2]) -> Result<()> {
    // A link-local address that is still being checked sends no neighbour solicitations: a second without IPv6. Of
    // this one link only: what the agent makes is to be quick by itself.
    sysctl(netns, &["net.ipv6.conf.eth0.accept_dad=0"])?;
    batch(
        Some(netns),
        &[
            "link set lo up".into(),
            "link set eth0 up".into(),
            format!("address add {v4}/24 dev eth0"),
            format!("address add {v6}/64 dev eth0 nodad"),
            format!("route add default via {via4}"),
            format!("route add default via {via6}"),
        ],
    )
}

fn router(netns: &str) -> Result<()> {
    // Frames between the hosts must not meet iptables rules of anybody where br_netfilter is loaded.
    let mut settings =
        vec!["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.default.accept_dad=0"];
    if Path::new("/proc/sys/net/bridge").exists() {
        settings.extend(["net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"]);
    }
    sysctl(netns, &settings)
}

fn sysctl(netns: &str, settings: &[&str]) -> Result<()> {
    Program::new("ip").args(["netns", "exec", netns, "sysctl", "-qw"]).args(settings).ok()?;
    Ok(())
}

/// Run `ip -batch` in a namespace.
pub(super) fn batch(netns: Option<&str>, lines: &[String]) -> Result<()> {
    let mut text = lines.join("\n");
    text.push('\n');
    let mut args = vec!["-batch", "-"];
    if let Some(netns) = netns {
        args.splice(0..0, ["-n", netns]);
    }
    Program::new("ip").args(args).input(text.clone()).ok().with_context(|| format!("lines were:\n{text}"))?;
    Ok(())
}
