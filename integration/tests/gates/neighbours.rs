//! Router advertisements from a sandbox to its neighbours.

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    forge::Packet,
    lab::{From, Host, Lab},
};

const PREFIX: &str = "2001:db8:bad::";

/// Have `evil` say that it is a router, with an address of its own making if it has none.
fn advertise(host: &Host, evil: &str, link: &str) -> Result<()> {
    let script = format!(
        "sysctl -qw net.ipv6.conf.{link}.disable_ipv6=0 net.ipv6.conf.{link}.accept_dad=0
        ip addr replace fe80::bad/64 dev {link} nodad"
    );
    host.ns_exec_ok(evil, &["sh", "-ec", &script])?;
    let index = host.ip_json(From::Sandbox(evil), &["link", "show", link])?;
    let index = index.first().and_then(|link| link.get("ifindex")?.as_u64()).context("the link's index")?;
    let packet = Packet::advertisement("fe80::bad".parse()?, PREFIX.parse()?)?;
    packet.send(&host.netns_of(From::Sandbox(evil)), None, u32::try_from(index)?)
}

/// What a sandbox took of it.
fn taken(host: &Host, sandbox: &str) -> Result<String> {
    let both = "ip -6 route show default proto ra; ip -6 addr show | grep 2001:db8:bad || true";
    Ok(host.ns_exec_ok(sandbox, &["sh", "-ec", both])?.stdout)
}

/// A network of every kind in which sandboxes have neighbours.
const NETWORKS: [(&str, &[&str]); 6] = [
    ("bare", &["-d", "bridge", "--subnet", "10.81.0.0/24"]),
    ("both", &["-d", "bridge", "--ipv6", "--subnet", "10.82.0.0/24", "--subnet", "fd82::/64"]),
    ("wide", &["-d", "overlay", "--subnet", "10.83.0.0/24"]),
    ("wide6", &["-d", "overlay", "--ipv6", "--subnet", "10.84.0.0/24", "--subnet", "fd84::/64"]),
    (
        "lan",
        &["-d", "macvlan", "-o", "parent=eth1", "--subnet", "203.0.113.0/24", "--gateway", "203.0.113.254"],
    ),
    ("wire", &["-d", "p2p", "--subnet", "10.85.0.0/24"]),
];

pub(super) fn routers(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    for (network, args) in NETWORKS {
        host.ovctl_ok(&[&["network", "create"][..], args, &[network]].concat())?;
        host.create_sandbox("evil", &[network])?;
        host.create_sandbox("b", &[network])?;
        advertise(host, "evil", "eth0")?;
        let addresses = host.ns_exec_ok("b", &["ip", "-6", "addr", "show", "dev", "eth0"])?;
        let has_ipv6 = args.contains(&"--ipv6");
        ensure!(addresses.stdout.contains("inet6") == has_ipv6, "{network}: {addresses}");
        // A packet behind it says that it has come.
        let to = host.address(network, "b")?;
        ensure!(host.ping(From::Sandbox("evil"), &to, 1)?.none(), "{network}: no way to b");
        ensure!(taken(host, "b")?.is_empty(), "{network}: {}", taken(host, "b")?);
        let open = "sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0 net.ipv6.conf.eth0.accept_ra=1";
        host.ns_exec_ok("b", &["sh", "-ec", open])?;
        advertise(host, "evil", "eth0")?;
        ensure!(host.ping(From::Sandbox("evil"), &to, 1)?.none(), "{network}: no way to b");
        ensure!(!taken(host, "b")?.is_empty(), "{network}: nobody would take it, this test shows nothing");
        // Mended, as whatever of ours is changed.
        host.ovctl_ok(&["network", "connect", "bridge", "b"])?;
        host.restart_agent9()?;
        host.wait_in_sync()?;
        for key in ["eth0", "eth1"].map(|link| format!("net/ipv6/conf/{link}/accept_ra")) {
            let value = host.ns_exec_ok("b", &["cat", &format!("/proc/sys/{key}")])?;
            ensure!(value.text() == "0", "{network}: {key} is {value}");
        }
        let bridges =
            host.exec_ok(&["sh", "-ec", "cat /proc/sys/net/ipv6/conf/ov[bhn]*/accept_ra | sort -u"])?;
        ensure!(bridges.text() == "0", "{network}: {bridges}");
        host.ovctl_ok(&["sandbox", "rm", "-f", "evil", "b"])?;
        host.ovctl_ok(&["network", "rm", network])?;
    }
    host.wait_in_sync()
}

pub(super) fn adopted(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.81.0.0/24", "net"])?;
    host.exec_ok(&["ip", "netns", "add", "theirs"])?;
    host.exec_ok(&["ip", "-n", "theirs", "link", "add", "own0", "type", "bridge"])?;
    let theirs = "for f in /proc/sys/net/ipv[46]/conf/all/accept_redirects /proc/sys/net/ipv6/conf/own0/accept_ra \
        /proc/sys/net/ipv6/conf/own0/disable_ipv6; do cat $f; done";
    let before = host.ns_exec_ok("theirs", &["sh", "-ec", theirs])?.stdout;
    host.ovctl_ok(&["sandbox", "create", "--netns", "/run/netns/theirs", "--network", "net", "b"])?;
    host.create_sandbox("evil", &["net"])?;
    advertise(host, "evil", "eth0")?;
    let to = host.address("net", "b")?;
    ensure!(host.ping(From::Sandbox("evil"), &to, 1)?.none(), "no way to b");
    ensure!(taken(host, "theirs")?.is_empty(), "{}", taken(host, "theirs")?);
    ensure!(
        host.ns_exec_ok("theirs", &["sh", "-ec", theirs])?.stdout == before,
        "what is not ours has changed"
    );
    host.ovctl_ok(&["sandbox", "rm", "-f", "evil", "b"])?;
    host.ovctl_ok(&["network", "rm", "net"])?;
    host.exec_ok(&["ip", "netns", "del", "theirs"])?;
    host.wait_in_sync()
}
