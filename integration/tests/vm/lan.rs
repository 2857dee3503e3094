//! Links on links of the host that Debian's kernel has and others lack: ipvlan, VLANs, dummy links; and SCTP's ports.

use anyhow::{Result, ensure};
use ovnet_integration::vm::Machine;

use crate::fixture::{Fixture, SOON};

/// The machines' own LAN, with addresses of it that no machine has.
const LAN: &str = "--subnet 192.0.2.0/24 --gateway 192.0.2.1 --ip-range 192.0.2.64/27";

/// Links, addresses and routes of a host: what must be the same before and after.
const KERNEL: &str =
    "ip -br link | cut -d ' ' -f 1 | sort; ip -br -4 address; ip route; ip netns; nft list ruleset";

fn create(host: &Machine, driver: &str, more: &str) -> Result<()> {
    host.run(&format!("ovctl network create -d {driver} {more} lan")).map(drop)
}

fn remove(host: &Machine, before: &str, sandboxes: &str) -> Result<()> {
    host.run(&format!("for name in {sandboxes}; do ovctl sandbox rm $name; done; ovctl network rm lan"))?;
    let script = format!("{KERNEL}; test \"$({KERNEL})\" = '{before}'");
    host.wait("the host to be as before", SOON, &script)
}

fn reaches(host: &Machine, sandbox: Option<&str>, to: &str) -> Result<()> {
    let inside = sandbox.map(|name| format!("ip netns exec {name} ")).unwrap_or_default();
    host.wait(&format!("to reach {to}"), SOON, &format!("{inside}ping -c 1 -W 5 {to}"))
}

pub(crate) fn ipvlan_l2(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let (host, other) = (cluster.host(1)?, cluster.host(2)?);
    let before = host.run(KERNEL)?;
    create(host, "ipvlan", &format!("-o parent=eth0 -o ipvlan_mode=l2 {LAN}"))?;
    host.run("ovctl sandbox create --network lan:ip=192.0.2.70 a; ovctl sandbox create --network lan:ip=192.0.2.71 b")?;
    let link = host.run("ip -n a -d -o link show eth0")?;
    ensure!(link.contains("ipvlan") && link.contains("mode l2"), "not of the kind: {link}");
    let macs =
        host.run("ip netns exec a cat /sys/class/net/eth0/address; cat /sys/class/net/eth0/address")?;
    let macs: Vec<&str> = macs.lines().collect();
    ensure!(macs.len() == 2 && macs.first() == macs.last(), "it has not its parent's address: {macs:?}");
    reaches(other, None, "192.0.2.70")?;
    reaches(host, Some("a"), "192.0.2.12")?;
    reaches(host, Some("a"), "192.0.2.71")?;
    // By the LAN's router to what is beyond.
    reaches(host, Some("b"), ovnet_integration::vm::OUTSIDE)?;
    remove(host, &before, "a b")
}

pub(crate) fn ipvlan_l3(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let (host, other) = (cluster.host(1)?, cluster.host(2)?);
    let before = host.run(KERNEL)?;
    create(host, "ipvlan", "-o parent=eth0 -o ipvlan_mode=l3 --subnet 198.51.100.0/24")?;
    host.run("ovctl sandbox create --network lan:ip=198.51.100.70 a; ovctl sandbox create --network lan:ip=198.51.100.71 b")?;
    let link = host.run("ip -n a -d -o link show eth0")?;
    ensure!(link.contains("ipvlan") && link.contains("mode l3 "), "not of the kind: {link}");
    let route = host.run("ip -n a route show default")?;
    ensure!(route.starts_with("default dev eth0"), "its way out has a gateway: {route}");
    // Nobody is asked for such an address: who wants to reach it has a route by the host.
    other.run("ip route add 198.51.100.0/24 via 192.0.2.11")?;
    let reached = reaches(other, None, "198.51.100.70")
        .and_then(|()| reaches(host, Some("a"), "192.0.2.12"))
        .and_then(|()| reaches(host, Some("a"), "198.51.100.71"));
    other.run("ip route del 198.51.100.0/24 via 192.0.2.11")?;
    reached?;
    remove(host, &before, "a b")
}

pub(crate) fn vlan(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let (host, other) = (cluster.host(1)?, cluster.host(2)?);
    let befores = [host.run(KERNEL)?, other.run(KERNEL)?];
    for (driver, pair) in [("macvlan", [70, 71]), ("ipvlan", [72, 73])] {
        for (host, last) in [host, other].into_iter().zip(pair) {
            create(host, driver, "-o parent=eth0.10 --subnet 198.51.100.0/24")?;
            host.run(&format!("ovctl sandbox create --network lan:ip=198.51.100.{last} a"))?;
            let link = host.run("ip -d -o link show eth0.10")?;
            ensure!(link.contains("vlan protocol 802.1Q id 10 "), "the parent is no VLAN: {link}");
        }
        let [here, there] = pair.map(|last| format!("198.51.100.{last}"));
        let tagged = "ip -s -j link show eth0.10 | python3 -c 'import json,sys; print(json.load(sys.stdin)[0][\"stats64\"][\"rx\"][\"packets\"])'";
        let count = other.run(tagged)?.parse::<u64>()?;
        reaches(host, Some("a"), &there)?;
        reaches(other, Some("a"), &here)?;
        ensure!(other.run(tagged)?.parse::<u64>()? > count, "nothing came in over the VLAN");
        // Neither is on the untagged LAN.
        let done = host.try_run("ip netns exec a ping -c 1 -W 2 192.0.2.12")?;
        ensure!(!done.status.success(), "the VLAN leaks to the LAN: {done}");
        for (host, before) in [host, other].into_iter().zip(&befores) {
            remove(host, before, "a")?;
        }
    }
    // One that was there is used, and stays.
    host.run("ip link add link eth0 name eth0.20 type vlan id 20; ip link set eth0.20 up")?;
    let before = host.run(KERNEL)?;
    create(host, "macvlan", "-o parent=eth0.20 --subnet 198.51.100.0/24")?;
    host.run("ovctl sandbox create --network lan a")?;
    remove(host, &before, "a")?;
    host.run("ip link show eth0.20; ip link del eth0.20").map(drop)
}

pub(crate) fn dummy(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let host = cluster.host(1)?;
    host.run("ip link add dum0 type dummy; ip link set dum0 up")?;
    let before = host.run(KERNEL)?;
    for driver in ["macvlan", "ipvlan"] {
        create(host, driver, "-o parent=dum0 --subnet 198.51.100.0/24")?;
        host.run("ovctl sandbox create --network lan:ip=198.51.100.70 a; ovctl sandbox create --network lan:ip=198.51.100.71 b")?;
        reaches(host, Some("a"), "198.51.100.71")?;
        reaches(host, Some("b"), "198.51.100.70")?;
        remove(host, &before, "a b")?;
    }
    host.run("ip link del dum0").map(drop)
}

/// Says its name and who asks, to each that connects.
const SERVER: &str = "import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
s.bind((\"\", 9000)); s.listen()
while True:
    c, who = s.accept(); c.sendall(f\"sctp for {who[0]}\\n\".encode()); c.close()";

const CLIENT: &str = "import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
s.settimeout(10); s.connect((sys.argv[1], 9900)); print(s.recv(100).decode())";

pub(crate) fn sctp(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    let (host, other) = (cluster.host(1)?, cluster.host(2)?);
    for host in [host, other] {
        host.run("modprobe sctp")?;
    }
    host.run(&format!(
        "cat >/root/server.py <<'END'\n{SERVER}\nEND\novctl run -d --name web -p 9900:9000/sctp -- python3 /root/server.py"
    ))?;
    other.run(&format!("cat >/root/client.py <<'END'\n{CLIENT}\nEND"))?;
    other.wait(
        "an answer over SCTP",
        SOON,
        "python3 /root/client.py 192.0.2.11 | grep 'sctp for 192.0.2.12'",
    )?;
    // TCP's port of the same number is nobody's.
    let done = other.try_run("curl -s -m 5 http://192.0.2.11:9900/")?;
    ensure!(done.status.code() == Some(7), "TCP is published too: {done}");
    host.run("ovctl sandbox rm -f web; rm /root/server.py")?;
    let done = other.try_run("timeout 10 python3 /root/client.py 192.0.2.11")?;
    ensure!(!done.status.success(), "it is published still: {done}");
    other.run("rm /root/client.py").map(drop)
}
