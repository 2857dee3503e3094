//! A host that forwards for its sandboxes, and for nobody else.

use std::time::Duration;

use anyhow::{Result, ensure};
use ovnet_integration::{
    forge::Packet,
    lab::{From, Host, Lab},
    talk::{Over, answers},
    wait::wait_until,
};

use super::{count, counted};

/// The flag of a segment that begins a connection.
const SYN: u8 = 0x02;

/// h1 was no router. Behind it is a second client, `lan2`, that h2 knows the way to.
///
/// ```text
///   h2 10.77.0.2 ---- 10.77.0.1 h1 192.0.2.1 ---- 192.0.2.2 lan2
/// ```
const SECOND: &str = "
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
ip netns add lan2
ip link add up1 type veth peer name eth0 netns lan2
ip addr add 192.0.2.1/24 dev up1
ip addr add 2001:db8:2::1/64 dev up1 nodad
ip link set up1 up
ip -n lan2 link set eth0 up
ip -n lan2 addr add 192.0.2.2/24 dev eth0
ip -n lan2 addr add 2001:db8:2::2/64 dev eth0 nodad
ip -n lan2 route add default via 192.0.2.1
ip -n lan2 route add default via 2001:db8:2::1
";
/// Somebody else's bridge with two ends, whose frames pass the firewall as if they were forwarded.
const BRIDGE: &str = "
ip link add br9 type bridge forward_delay 0
ip link set br9 up
for n in 1 2; do
  ip netns add vm$n
  ip link add vm$n type veth peer name eth0 netns vm$n
  ip link set vm$n master br9 up
  ip -n vm$n addr add 198.18.0.$n/24 dev eth0
  ip -n vm$n link set eth0 up
done
sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
";
const BEYOND: [&str; 2] = ["192.0.2.2", "2001:db8:2::2"];

fn reaches(host: &Host, to: &str) -> Result<bool> {
    Ok(host.ping(From::Host, to, 2)?.none())
}

pub(super) fn strangers(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.exec_ok(&["sh", "-ec", SECOND])?;
    h1.exec_ok(&["sh", "-ec", BRIDGE])?;
    let ways = format!(
        "ip route add 192.0.2.0/24 via {}; ip route add 2001:db8:2::/64 via {}",
        h1.address_v4(),
        h1.address_v6()
    );
    h2.exec_ok(&["sh", "-ec", &ways])?;
    let closed = |when: &str| -> Result<()> {
        for to in BEYOND {
            ensure!(!reaches(h2, to)?, "h2 reaches {to} through h1 {when}");
        }
        Ok(())
    };
    closed("before there is any network")?;
    h1.ovctl_ok(&[
        "network",
        "create",
        "-d",
        "bridge",
        "--ipv6",
        "--subnet",
        "10.71.0.0/24",
        "--subnet",
        "fd71::/64",
        "net",
    ])?;
    h1.create_sandbox("a", &["net"])?;
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        let value = h1.exec_ok(&["cat", &format!("/proc/sys/{key}")])?;
        ensure!(value.text() == "1", "{key} is off");
    }
    closed("with a network")?;
    for to in BEYOND.into_iter().chain([h2.address_v4().as_str(), h2.address_v6().as_str()]) {
        ensure!(h1.ping(From::Sandbox("a"), to, 2)?.none(), "the sandbox does not reach {to}");
    }
    ensure!(h1.ping(From::Sandbox("vm1"), "198.18.0.2", 2)?.none(), "a bridge of somebody else is cut");
    h1.restart_agent9()?;
    h1.wait_in_sync()?;
    closed("after a restart")?;
    // Somebody who has rules for what is forwarded decides about it: here for IPv4 only.
    h1.exec_ok(&["iptables", "-A", "FORWARD", "-i", "up1", "-j", "ACCEPT"])?;
    wait_until("the others' word to count", Duration::from_secs(5), || reaches(h2, BEYOND[0]))?;
    ensure!(!reaches(h2, BEYOND[1])?, "IPv6 is open too");
    h1.exec_ok(&["iptables", "-D", "FORWARD", "-i", "up1", "-j", "ACCEPT"])?;
    wait_until("the host to close again", Duration::from_secs(5), || Ok(!reaches(h2, BEYOND[0])?))?;
    h1.ovctl_ok(&["sandbox", "rm", "-f", "a"])?;
    h1.ovctl_ok(&["network", "rm", "net"])?;
    h1.wait_in_sync()?;
    closed("after the last network")?;
    // It is the rules, and nothing else.
    h1.kill9_agent();
    h1.exec_ok(&["nft", "delete", "table", "inet", "ovnet"])?;
    for to in BEYOND {
        ensure!(reaches(h2, to)?, "{to} is not reached without the rules: this test shows nothing");
    }
    h1.exec_ok(&["sh", "-ec", "for n in lan2 vm1 vm2; do ip netns del $n; done"]).map(|_done| ())
}

/// h2 sends to h1 what is for 127.0.0.1.
pub(super) fn loopback(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.ovctl_ok(&["sandbox", "create", "--network", "bridge", "-p", "127.0.0.1:8080:80", "web"])?;
    let _web = h1.echo(From::Sandbox("web"), "web", &["tcp/80"])?;
    count(h1, Some("web"), &format!("ip saddr {}", h2.address_v4()))?;
    let way = format!(
        "ip route del table local local 127.0.0.0/8 dev lo; ip route del table local local 127.0.0.1 dev lo
        ip route add 127.0.0.1/32 via {}",
        h1.address_v4(),
    );
    h2.exec_ok(&["sh", "-ec", &way])?;
    let from = (h2.address_v4().parse()?, 4_000);
    Packet::tcp(from, ("127.0.0.1".parse()?, 8080), SYN)?.send(&h2.netns(), None, 0)?;
    // What is sent later arrives later.
    ensure!(h2.ping(From::Host, &h1.address_v4(), 1)?.none(), "no way to h1");
    answers(&h1.netns(), Over::Tcp, "127.0.0.1:8080", "web")?;
    ensure!(counted(h1, Some("web"))? == 0, "a neighbour reaches a port on 127.0.0.1");
    Ok(())
}
