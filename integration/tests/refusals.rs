//! What bad input of modes, ports, names and options gets: an error that names it and says what would be right; and nothing
//! is left behind.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab},
    wait::{Poll, wait_for},
};

fn main() -> Result<()> {
    frame::run(Test::on_one(
        Lab::builder().hosts(1).etcd(false).lan(true),
        [
            (
                "unknown modes and drivers are refused with those that there are",
                modes as fn(&Lab) -> Result<()>,
            ),
            ("options that a driver does not know are refused with the nearest", options),
            ("malformed ports are refused", ports),
            ("a container that is not there cannot be shared", containers),
            ("links that lead nowhere or in a loop are refused", links),
            ("malformed names, hosts and servers are refused", names),
            ("a path where no namespace is hangs nobody, whatever is there", odd_files),
            ("parents that are gone, in use or unfit are refused", parents),
            ("a parent that goes later is named", parent_goes),
            ("endpoint options that cannot be are refused", endpoint_options),
            ("networks that cannot be are refused", networks),
            ("the network bridge and reserved names cannot be made or removed", reserved),
        ],
    ))
}

/// What the store and the host's kernel have, line by line, to be the same after a refusal.
fn traces(host: &Host) -> Result<BTreeSet<String>> {
    let store = host.ovctl_ok(&["store", "dump", "--format", "{{.Key}} {{json .Value}}"])?.stdout;
    let links = host.exec_ok(&["ip", "-o", "link"])?.stdout;
    let files =
        host.exec_ok(&["sh", "-c", "find /etc/netns /run/ovnet -type f | sort; nft list ruleset"])?.stdout;
    // What forwarding was before is kept as long as it is on.
    let store = store.lines().filter(|line| !line.contains("/sysctls/"));
    let lines = store.chain(links.lines()).chain(files.lines()).map(String::from);
    Ok(lines.chain(host.netns_names()?).collect())
}

/// More of each than the agent has threads for what blocks.
fn odd_files(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let made =
        "mkdir -p /run/netns/odd-dir; for n in 1 2 3 4 5 6 7 8 9 10; do mkfifo /run/netns/odd-fifo$n; done";
    host.exec_ok(&["sh", "-c", made])?;
    let mut paths: Vec<String> = (1..=10).map(|n| format!("/run/netns/odd-fifo{n}")).collect();
    paths.extend(["/run/netns/odd-dir", "/dev/zero", "/etc/passwd"].map(String::from));
    std::thread::scope(|scope| {
        let create = |path: &String| host.ovctl(&["sandbox", "create", "--netns", path]);
        let calls: Vec<_> = paths.iter().map(|path| (path, scope.spawn(move || create(path)))).collect();
        for (path, call) in calls {
            let done = call.join().map_err(|_panic| anyhow::anyhow!("a panic"))??;
            ensure!(done.code() == 1 && done.stderr.contains(path.as_str()), "{done}");
        }
        anyhow::Ok(())
    })?;
    // A record may lead to one as well.
    host.exec_ok(&["ip", "netns", "add", "odd-was"])?;
    host.ovctl_ok(&["sandbox", "create", "--netns", "/run/netns/odd-was", "odd"])?;
    host.exec_ok(&["sh", "-c", "ip netns del odd-was; mkfifo /run/netns/odd-was"])?;
    let gone = host.ovctl_ok(&["sandbox", "ls", "--format", "{{.Name}} {{.State}}"])?.stdout;
    ensure!(gone.contains("odd gone"), "{gone}");
    let entered = host.ovctl(&["exec", "odd", "true"])?;
    ensure!(!entered.status.success(), "{entered}");
    host.stop_agent()?;
    host.start_agent()?;
    host.wait_ready()?;
    host.ovctl_ok(&["sandbox", "rm", "odd"])?;
    host.exec_ok(&["sh", "-c", "rm -r /run/netns/odd-*"])?;
    Ok(())
}

/// Each of these is refused, by ovctl (2) or by the agent (1), with all of these words, and nothing is left.
fn all_refused(host: &Host, cases: &[(&[&str], &[&str])]) -> Result<()> {
    let before = traces(host)?;
    for (args, words) in cases {
        let done = host.ovctl(args)?;
        ensure!(done.code() == 1 || done.code() == 2, "not refused: {done}");
        ensure!(done.stdout.is_empty(), "a refusal on stdout: {done}");
        for word in *words {
            ensure!(done.stderr.contains(word), "it does not say {word:?}: {done}");
        }
        wait_for("all traces of a refusal to go", Duration::from_secs(10), || {
            let after = traces(host)?;
            let changes: Vec<&String> = before.symmetric_difference(&after).collect();
            let left = format!("{} leaves {changes:#?}", done.line);
            Ok(if changes.is_empty() { Poll::Ready(()) } else { Poll::Pending(left) })
        })?;
    }
    Ok(())
}

/// `sandbox create --network net … box`.
fn sandbox<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["sandbox", "create", "--network", "net"][..], args, &["box"]].concat()
}

fn each<'a>(host: &Host, cases: &[(&[&'a str], &[&'a str])]) -> Result<()> {
    for (args, words) in cases {
        all_refused(host, &[(&sandbox(args), words)])?;
    }
    Ok(())
}

fn net(host: &Host) -> Result<()> {
    host.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.95.0.0/24", "net"]).map(|_done| ())
}

fn done(host: &Host) -> Result<()> {
    host.ovctl_ok(&["network", "rm", "net"]).map(|_done| ())
}

fn modes(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    host.create_sandbox("there", &[])?;
    all_refused(
        host,
        &[
            (&["network", "create", "-d", "bridg", "fresh"], &["bridg", "bridge"]),
            (&["network", "create", "-d", "sdn", "fresh"], &["sdn", "overlay", "macvlan", "p2p"]),
            (&["network", "create", "-d", "none", "fresh"], &["none"]),
            (&["network", "create", "-d", "host", "fresh"], &["host"]),
            (&["sandbox", "create", "--network", "nowhere", "box"], &["nowhere"]),
            (&["sandbox", "create", "--network", "host", "box"], &["host"]),
            (&["sandbox", "create", "--network", "none", "--network", "net", "box"], &["none"]),
            (&["sandbox", "create", "--network", "container:", "box"], &["container"]),
            (&["run", "--network", "host", "--network", "net", "--", "true"], &["host"]),
            (&["run", "--network", "host", "-p", "80:80", "--", "true"], &["host", "-p"]),
            (&["run", "--network", "none", "-p", "80:80", "--", "true"], &["none", "-p"]),
            (&["network", "connect", "host", "there"], &["host"]),
            (&["network", "connect", "none", "there"], &["none"]),
        ],
    )?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "there"])?;
    done(host)
}

fn options(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    all_refused(
        host,
        &[
            (&["network", "create", "-d", "bridge", "-o", "icx=false", "fresh"], &["icx", "icc"]),
            (&["network", "create", "-d", "bridge", "-o", "icc=maybe", "fresh"], &["maybe", "true", "false"]),
            (&["network", "create", "-d", "bridge", "-o", "vni=300", "fresh"], &["vni", "overlay", "bridge"]),
            (&["network", "create", "-d", "overlay", "-o", "parent=eth1", "fresh"], &["parent", "macvlan"]),
            (
                &["network", "create", "-d", "overlay", "-o", "ovnet.publish=global", "fresh"],
                &["global", "mesh"],
            ),
            (
                &[
                    "network",
                    "create",
                    "-d",
                    "macvlan",
                    "-o",
                    "parent=eth1",
                    "-o",
                    "macvlan_mode=bride",
                    "fresh",
                ],
                &["bride", "bridge", "vepa"],
            ),
            (&["network", "create", "-d", "p2p", "-o", "icc=false", "fresh"], &["icc", "bridge"]),
            (
                &[
                    "network",
                    "create",
                    "-d",
                    "bridge",
                    "-o",
                    "com.docker.network.bridge.enable_ip_masquerad=true",
                    "fresh",
                ],
                &["com.docker.network.bridge.enable_ip_masquerade"],
            ),
            (
                &[
                    "network",
                    "create",
                    "-d",
                    "bridge",
                    "-o",
                    "com.docker.network.bridge.name=a-name-that-is-too-long",
                    "fresh",
                ],
                &["a-name-that-is-too-long"],
            ),
            (
                &[
                    "network",
                    "create",
                    "-d",
                    "bridge",
                    "-o",
                    "com.docker.network.bridge.host_binding_ipv4=here",
                    "fresh",
                ],
                &["here"],
            ),
        ],
    )
}

fn ports(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    each(
        host,
        &[
            (&["-p", "0:80"], &["0:80"]),
            (&["-p", "65536:80"], &["65536"]),
            (&["-p", "80:65536"], &["65536"]),
            (&["-p", "80:0"], &["80:0"]),
            (&["-p", "-1:80"], &["-1"]),
            (&["-p", "http:80"], &["http"]),
            (&["-p", "80:80/icmp"], &["icmp", "tcp"]),
            (&["-p", "90-80:80"], &["90-80"]),
            (&["-p", "80-82:90-91"], &["80-82", "90-91"]),
            (&["-p", "300.0.0.1:80:80"], &["300.0.0.1"]),
            (&["-p", "192.0.2.99:80:80"], &["192.0.2.99"]),
            (&["-p", "[fd95::]:80:80:80"], &["[fd95::]:80:80:80"]),
            (&["-p", "[::1]:8080:80"], &["::1", "127.0.0.1"]),
            (&["-p", ""], &["PORT"]),
            (&["-p", "8080:80", "-p", "8080:81"], &["8080"]),
            (&["-P"], &["expose"]),
        ],
    )?;
    done(host)
}

fn containers(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.exec_ok(&["ip", "netns", "add", "theirs"])?;
    host.ovctl_ok(&["sandbox", "create", "--netns", "/run/netns/theirs", "stopped"])?;
    host.exec_ok(&["ip", "netns", "del", "theirs"])?;
    all_refused(
        host,
        &[
            (&["sandbox", "create", "--network", "container:nobody", "box"], &["nobody"]),
            (&["run", "--network", "container:nobody", "--", "true"], &["nobody"]),
            (&["sandbox", "create", "--network", "container:stopped", "box"], &["stopped"]),
            (&["sandbox", "create", "--network", "container:box", "box"], &["box"]),
            (&["sandbox", "create", "--network", "container:stopped", "-p", "80:80", "box"], &["container"]),
        ],
    )?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "stopped"]).map(|_done| ())
}

fn links(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    host.create_sandbox("db", &["net"])?;
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "--link", "db", "app"])?;
    each(
        host,
        &[
            (&["--link", "nobody"], &["nobody"]),
            (&["--link", "box"], &["box"]),
            (&["--link", ":alias"], &[":alias"]),
            (&["--link", "db:"], &["db:"]),
            (&["--link", "db:a b"], &["a b"]),
            (&["--link", "db:x", "--link", "app:x"], &["x"]),
        ],
    )?;
    // A loop: db comes again and links app, which links db.
    host.ovctl_ok(&["network", "disconnect", "net", "db"])?;
    all_refused(host, &[(&["network", "connect", "--link", "app", "net", "db"], &["app", "db"])])?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "db", "app"])?;
    done(host)
}

fn names(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    each(
        host,
        &[
            (&["--add-host", "db"], &["db", "NAME"]),
            (&["--add-host", "db:"], &["db:"]),
            (&["--add-host", ":192.0.2.1"], &[":192.0.2.1"]),
            (&["--add-host", "db:192.0.2.256"], &["192.0.2.256"]),
            (&["--add-host", "db:host-gatway"], &["host-gatway", "host-gateway"]),
            (&["--add-host", "a b:192.0.2.1"], &["a b"]),
            (&["--add-host", "db\nevil:192.0.2.1"], &["evil"]),
            (&["--dns", "banana"], &["banana"]),
            (&["--dns", "0.0.0.0"], &["0.0.0.0"]),
            (&["--dns-search", "a b"], &["a b"]),
            (&["--dns-opt", "a b"], &["a b"]),
            (&["--dns-opt", "x\nnameserver 192.0.2.1"], &["nameserver"]),
            (&["--hostname=-x-"], &["-x-"]),
            (&["--hostname", "a b"], &["a b"]),
            (&["--alias", "a b"], &["a b"]),
            (&["--mac-address", "01:00:5e:00:00:01"], &["01:00:5e:00:00:01"]),
        ],
    )?;
    done(host)
}

fn parents(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.ovctl_ok(&["network", "create", "-d", "macvlan", "-o", "parent=eth1", "lan"])?;
    host.exec_ok(&["sh", "-ec", "ip link add their-br type bridge; ip link add their-v type veth peer name their-w; ip link set their-v master their-br"])?;
    let create = |parent: &'static str| ["network", "create", "-d", "macvlan", "-o", parent, "fresh"];
    all_refused(
        host,
        &[
            (&create("parent=eth9"), &["eth9"]),
            (&create("parent=eth9.10"), &["eth9"]),
            (&create("parent=eth0.4095"), &["4095"]),
            (&create("parent=lo"), &["lo"]),
            (&create("parent=eth1"), &["eth1", "lan"]),
            (&create("parent=a name"), &["a name"]),
            (&["network", "create", "-d", "macvlan", "fresh"], &["parent"]),
            (&["network", "create", "-d", "ipvlan", "-o", "parent=eth1", "fresh"], &["eth1"]),
        ],
    )?;
    // Somebody else's bridge has it: that shows when a link is made on it.
    let busy = host.ovctl(&create("parent=their-v"))?;
    if busy.status.success() {
        all_refused(host, &[(&["sandbox", "create", "--network", "fresh", "box"], &["their-v"])])?;
        host.ovctl_ok(&["network", "rm", "fresh"])?;
    } else {
        ensure!(busy.code() == 1 && busy.stderr.contains("their-v"), "{busy}");
    }
    host.exec_ok(&["sh", "-ec", "ip link del their-br; ip link del their-v"])?;
    host.ovctl_ok(&["network", "rm", "lan"]).map(|_done| ())
}

fn parent_goes(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.exec_ok(&["sh", "-ec", "ip link add their-v type veth peer name their-w; ip link set their-v up"])?;
    host.ovctl_ok(&["network", "create", "-d", "macvlan", "-o", "parent=their-v", "lan"])?;
    host.create_sandbox("a", &["lan"])?;
    host.exec_ok(&["ip", "link", "del", "their-v"])?;
    all_refused(host, &[(&["sandbox", "create", "--network", "lan", "box"], &["their-v"])])?;
    // What is left can be removed.
    host.ovctl_ok(&["sandbox", "rm", "-f", "a"])?;
    host.ovctl_ok(&["network", "rm", "lan"]).map(|_done| ())
}

fn endpoint_options(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    const SYSCTLS: &str = "com.docker.network.endpoint.sysctls=";
    let sysctl = |text: &str| format!("{SYSCTLS}{text}");
    let (outside, unknown, bare) = (
        sysctl("kernel.panic=1"),
        sysctl("net.ipv4.conf.IFNAME.no_such_thing=1"),
        sysctl("net.ipv4.ip_forward"),
    );
    let climbing = sysctl("net.ipv4.conf.IFNAME.../../kernel/panic=1");
    each(
        host,
        &[
            (&["-o", "com.docker.network.endpoint.sysctl=x"], &["com.docker.network.endpoint.sysctls"]),
            (&["-o", "com.docker.network.endpoint.ifname=a/b"], &["a/b"]),
            (&["-o", "com.docker.network.endpoint.ifname=lo"], &["lo"]),
            (
                &["-o", "com.docker.network.endpoint.ifname=a-name-that-is-too-long"],
                &["a-name-that-is-too-long"],
            ),
            (&["-o", &outside], &["kernel.panic"]),
            (&["-o", &unknown], &["no_such_thing"]),
            (&["-o", &bare], &["ip_forward"]),
            (&["-o", &climbing], &["kernel"]),
            (&["--link-local-ip", "10.0.0.1"], &["10.0.0.1", "169.254.0.0/16"]),
            (&["--link-local-ip", "fd00::1"], &["fd00::1", "fe80::/64"]),
            (&["--gw-priority", "100"], &["100"]),
            (&["--gw-priority", "first"], &["first"]),
        ],
    )?;
    done(host)
}

fn networks(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    net(host)?;
    host.exec_ok(&["ip", "link", "add", "their-d", "type", "veth", "peer", "name", "their-e"])?;
    all_refused(
        host,
        &[
            (
                &["network", "create", "-d", "bridge", "--subnet", "10.95.0.0/25", "fresh"],
                &["10.95.0.0/25", "net"],
            ),
            (
                &["network", "create", "-d", "bridge", "--subnet", "10.77.0.0/24", "fresh"],
                &["10.77.0.0/24", "eth0"],
            ),
            (&["network", "create", "-d", "bridge", "--subnet", "10.96.0.0/31", "fresh"], &["10.96.0.0/31"]),
            (&["network", "create", "-d", "p2p", "--subnet", "10.96.0.0/32", "fresh"], &["10.96.0.0/32"]),
            (
                &[
                    "network",
                    "create",
                    "-d",
                    "p2p",
                    "--subnet",
                    "10.96.0.0/24",
                    "--gateway",
                    "10.96.0.1",
                    "fresh",
                ],
                &["10.96.0.1"],
            ),
            (&["network", "create", "-d", "bridge", "net"], &["net"]),
            (
                &[
                    "network",
                    "create",
                    "-d",
                    "bridge",
                    "-o",
                    "com.docker.network.bridge.name=their-d",
                    "fresh",
                ],
                &["their-d"],
            ),
            (
                &["network", "create", "-d", "bridge", "-o", "com.docker.network.bridge.name=eth0", "fresh"],
                &["eth0"],
            ),
        ],
    )?;
    host.exec_ok(&["ip", "link", "del", "their-d"])?;
    done(host)
}

fn reserved(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    all_refused(
        host,
        &[
            (&["network", "create", "-d", "bridge", "bridge"], &["bridge"]),
            (&["network", "create", "-d", "bridge", "none"], &["none"]),
            (&["network", "create", "-d", "overlay", "host"], &["host"]),
            (&["network", "rm", "bridge"], &["bridge"]),
            (&["network", "rm", "none"], &["none"]),
        ],
    )?;
    let pruned = host.ovctl_ok(&["network", "prune", "-f"])?;
    ensure!(!pruned.stdout.contains("bridge"), "it is pruned: {pruned}");
    host.create_sandbox("box", &["bridge"])?;
    ensure!(host.ping(From::Sandbox("box"), "127.0.0.1", 1)?.none(), "a sandbox is of no use");
    host.ovctl_ok(&["sandbox", "rm", "-f", "box"]).map(|_done| ())
}
