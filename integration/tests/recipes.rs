//! The classic recipes by hand beside ours: what `ip -j` shows inside is the same.
//!
//! ```text
//!   hand's: namespace, veth renamed eth0, bridge, default route, /etc/netns/NAME/resolv.conf
//!   ours:   ovctl network create -d bridge, ovctl sandbox create
//! ```

use std::fs;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab},
    talk::{Over, answers, at},
    wait::wait_until,
};
use serde_json::{Map, Value, json};

fn main() -> Result<()> {
    let one = Lab::builder().hosts(1).etcd(false);
    frame::run(Test::on_one(
        one,
        [
            ("a sandbox on a bridge is what the recipe makes", namespace as fn(&Lab) -> Result<()>),
            ("a second nic of a running process is what the recipe makes", second_nic),
            ("the ends of a pair name each other's index", indexes),
        ],
    ))
}

/// By hand: a bridge `br-hand` with 10.71.0.1 and fd71::1, and a namespace `hand` on it.
const BY_HAND: &str = "
ip netns add hand
ip link add br-hand type bridge
ip address add 10.71.0.1/24 dev br-hand
ip address add fd71::1/64 dev br-hand nodad
ip link set br-hand up
ip link add hand-out type veth peer name hand-in
ip link set hand-in netns hand name eth0
ip link set hand-out master br-hand up
ip -n hand link set lo up
ip netns exec hand sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip -n hand address add 10.71.0.2/24 dev eth0
ip -n hand address add fd71::2/64 dev eth0 nodad
ip -n hand link set eth0 up
ip -n hand route add default via 10.71.0.1
ip -n hand route add default via fd71::1
mkdir -p /etc/netns/hand
echo 'nameserver 198.51.100.2' > /etc/netns/hand/resolv.conf
echo '10.71.0.2 hand' > /etc/netns/hand/hosts
";

const UNDO: &str = "
ip netns del hand
ip link del br-hand
rm -r /etc/netns/hand
";

/// What is compared: names and numbers that must differ (indexes, Ethernet addresses, alias, the route's mark) are not in it,
/// and the network's own part of an address is `net`.
fn shape(host: &Host, sandbox: &str, [v4, v6]: [&str; 2]) -> Result<Value> {
    let from = From::Sandbox(sandbox);
    let plain = |text: &str| text.replace(v4, "net4.").replace(v6, "net6::");
    let keep = |objects: Vec<Value>, fields: &[&str]| -> Vec<Value> {
        let pick = |object: &Value| {
            let kept = fields.iter().filter_map(|field| {
                let value = object.get(*field)?;
                let value = value.as_str().map_or_else(|| value.clone(), |text| json!(plain(text)));
                Some((String::from(*field), value))
            });
            Value::Object(kept.collect::<Map<_, _>>())
        };
        objects.iter().map(pick).collect()
    };
    let links = host.ip_json(from, &["link"])?;
    let mut addresses = Vec::new();
    for link in host.ip_json(from, &["address"])? {
        let own = link.get("addr_info").and_then(Value::as_array).cloned().unwrap_or_default();
        // Link-local addresses come from the Ethernet address.
        let own = own.into_iter().filter(|address| {
            !address.get("local").and_then(Value::as_str).is_some_and(|local| local.starts_with("fe80:"))
        });
        addresses.push(json!({
            "ifname": link.get("ifname"),
            "addresses": keep(own.collect(), &["family", "local", "prefixlen", "scope", "broadcast"]),
        }));
    }
    let kinds: Vec<_> = links.iter().map(|link| link.pointer("/linkinfo/info_kind").cloned()).collect();
    let routes = |args: &[&str]| -> Result<Vec<Value>> {
        let mut routes =
            keep(host.ip_json(from, args)?, &["type", "dst", "gateway", "dev", "scope", "prefsrc"]);
        routes.sort_by_key(ToString::to_string);
        Ok(routes)
    };
    Ok(json!({
        "links": keep(links, &["ifname", "flags", "mtu", "operstate", "link_type", "group"]),
        "kinds": kinds,
        "addresses": addresses,
        "routes": routes(&["-4", "route"])?,
        "routes6": routes(&["-6", "route"])?,
    }))
}

fn alike(by_hand: &Value, ours: &Value) -> Result<()> {
    for (what, hand) in by_hand.as_object().context("no object")? {
        let own = ours.get(what).context("a part is missing")?;
        ensure!(hand == own, "{what} differ:\nby hand {hand:#}\nours {own:#}");
    }
    Ok(())
}

fn namespace(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.exec_ok(&["sh", "-ec", BY_HAND])?;
    let subnets = ["--ipv6", "--subnet", "10.72.0.0/24", "--subnet", "fd72::/64"];
    host.ovctl_ok(&[&["network", "create", "-d", "bridge"][..], &subnets, &["net"]].concat())?;
    host.create_sandbox("ours", &["net:ip=10.72.0.2,ip6=fd72::2"])?;
    alike(&shape(host, "hand", ["10.71.0.", "fd71::"])?, &shape(host, "ours", ["10.72.0.", "fd72::"])?)?;
    // Both are reached in the same way, and see their own files by `ip netns exec`.
    for (name, v4, v6) in [("hand", "10.71.0.2", "fd71::2"), ("ours", "10.72.0.2", "fd72::2")] {
        let _echo = host.echo(From::Sandbox(name), name, &["tcp/80"])?;
        answers(&host.netns(), Over::Tcp, &at(v4, 80), name)?;
        answers(&host.netns(), Over::Tcp, &at(v6, 80), name)?;
        let hosts = host.ns_exec_ok(name, &["cat", "/etc/hosts"])?.stdout;
        ensure!(hosts.contains(v4) && hosts.contains(name), "the hosts file of {name}:\n{hosts}");
        let resolver = host.ns_exec_ok(name, &["cat", "/etc/resolv.conf"])?.stdout;
        ensure!(resolver.lines().any(|line| line.starts_with("nameserver ")), "{name}:\n{resolver}");
    }
    ensure!(host.path("/etc/netns/ours/resolv.conf").is_file(), "no /etc/netns/ours/resolv.conf");
    host.ovctl_ok(&["sandbox", "rm", "-f", "ours"])?;
    ensure!(!host.path("/etc/netns/ours").exists(), "/etc/netns/ours stays");
    host.ovctl_ok(&["network", "rm", "net"])?;
    host.exec_ok(&["sh", "-ec", UNDO]).map(|_done| ())
}

/// A process with a namespace of its own that has an `eth0` already; its pid as the lab numbers it.
fn process(host: &Host, name: &str) -> Result<String> {
    let script = "unshare --net sh -c 'ip link set lo up; exec sleep infinity' >/dev/null 2>&1 & echo $!";
    let pid = host.exec_ok(&["sh", "-c", script])?.text().to_string();
    let own = fs::read_link(host.netns()).context("read the host's namespace")?;
    let path = format!("/proc/{pid}/ns/net");
    wait_until("the process to be in its namespace", std::time::Duration::from_secs(5), || {
        Ok(fs::read_link(&path).context("read its namespace")? != own)
    })?;
    // A name, so that the rest of the test sees both alike.
    host.exec_ok(&["ip", "netns", "attach", name, &pid])?;
    let first = format!("ip link add {name}-0 type veth peer name eth0 netns {pid}; ip link set {name}-0 up");
    host.exec_ok(&["sh", "-ec", &first])?;
    host.ns_exec_ok(name, &["ip", "link", "set", "eth0", "up"])?;
    Ok(pid)
}

fn second_nic(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let (hand, ours) = (process(host, "by-hand")?, process(host, "by-us")?);
    let script = format!(
        "ip link add br-hand type bridge; ip address add 10.71.0.1/24 dev br-hand; ip link set br-hand up
         ip link add hand-out type veth peer name hand-in
         ip link set hand-in netns {hand} name eth1
         ip link set hand-out master br-hand up
         nsenter --target {hand} --net sh -ec 'ip address add 10.71.0.2/24 dev eth1
             ip link set eth1 up; ip route add default via 10.71.0.1'"
    );
    host.exec_ok(&["sh", "-ec", &script])?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.72.0.0/24", "net"])?;
    host.ovctl_ok(&["sandbox", "create", "--pid", &ours, "--network", "net:ip=10.72.0.2", "job"])?;
    let (by_hand, by_us) =
        (shape(host, "by-hand", ["10.71.0.", "fd71::"])?, shape(host, "by-us", ["10.72.0.", "fd72::"])?);
    for what in ["links", "kinds", "addresses", "routes"] {
        ensure!(
            by_hand[what] == by_us[what],
            "{what} differ:\nby hand {}\nours {}",
            by_hand[what],
            by_us[what]
        );
    }
    for (name, to) in [("by-hand", "10.71.0.2"), ("by-us", "10.72.0.2")] {
        ensure!(host.ping(From::Host, to, 2)?.none(), "{name} is not reached");
    }
    host.ovctl_ok(&["sandbox", "rm", "-f", "job"])?;
    let links = host.links(From::Sandbox("by-us"))?;
    ensure!(links == ["eth0"], "what was there has changed: {links:?}");
    host.ovctl_ok(&["network", "rm", "net"])?;
    let undo =
        format!("ip link del br-hand; kill -9 {hand} {ours}; ip netns del by-hand; ip netns del by-us");
    host.exec_ok(&["sh", "-ec", &undo]).map(|_done| ())
}

fn indexes(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.ovctl_ok(&[
        "network",
        "create",
        "-d",
        "bridge",
        "-o",
        "com.docker.network.bridge.name=br-ours",
        "net",
    ])?;
    host.create_sandbox("a", &["net"])?;
    host.create_sandbox("b", &["net"])?;
    let ports = host.ip_json(From::Host, &["link", "show", "master", "br-ours"])?;
    ensure!(ports.len() == 2, "{ports:?}");
    let number = |link: &Value, field: &str| link.get(field).and_then(Value::as_u64);
    for name in ["a", "b"] {
        let inner = host.ip_json(From::Sandbox(name), &["link", "show", "eth0"])?;
        let inner = inner.first().context("no eth0")?;
        let outer = ports.iter().find(|port| number(port, "ifindex") == number(inner, "link_index"));
        let outer = outer.with_context(|| format!("no port of the bridge is the peer of {inner}"))?;
        ensure!(
            number(outer, "link_index") == number(inner, "ifindex"),
            "{outer} is not the peer of {inner}"
        );
        // As people read it: eth0@if7 here, and ...@if6 there.
        let typed = host.ns_exec_ok(name, &["ip", "-o", "link", "show", "eth0"])?.stdout;
        let index = number(outer, "ifindex").context("no index")?;
        ensure!(typed.contains(&format!("eth0@if{index}:")), "{typed}");
        let from_sys = host.ns_exec_ok(name, &["cat", "/sys/class/net/eth0/iflink"])?;
        ensure!(from_sys.text() == index.to_string(), "iflink: {from_sys}");
    }
    host.ovctl_ok(&["sandbox", "rm", "-f", "a", "b"])?;
    host.ovctl_ok(&["network", "rm", "net"]).map(|_done| ())
}
