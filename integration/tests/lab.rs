//! The lab itself, without agents: its underlay, faults, store and outside, and that nothing of it stays.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, LAN_ROUTER_V4, Lab, OUTSIDE_V4, OUTSIDE_V6},
    talk::{Answer, Over, PATIENT, ask},
    wait::wait_until,
};

fn main() -> Result<()> {
    let bare = || Lab::builder().agents(false).etcd(false);
    frame::run([
        Test::new("hosts reach each other and the outside over both families", bare(), reach),
        Test::new("a partition separates two hosts until it is healed", bare(), partition),
        Test::new("loss is what was asked for", bare().hosts(2), loss),
        Test::new(
            "etcd answers, freezes, dies and comes back with its data",
            bare().hosts(1).etcd(true),
            store,
        ),
        Test::new("a lab leaves nothing behind", bare().hosts(1), nothing_stays),
        Test::new("the kernel's state is equal to itself and shows a change", bare().hosts(1), state),
        Test::new("a host has its own name and its own named namespaces", bare().hosts(2), own_world),
        Test::new(
            "the underlay carries packets of its mtu and no larger ones",
            bare().hosts(2).mtu(1400),
            mtu,
        ),
        Test::new("a background ping counts what is lost", bare().hosts(2), background),
        Test::new("an echo tells who asks it and a name server what it was told", bare().hosts(2), servers),
        Test::new("the second switch is reached from outside", bare().hosts(1).lan(true), lan),
    ])
}

fn reach(lab: &Lab) -> Result<()> {
    for from in &lab.hosts {
        let mut prober = from.prober(From::Host)?;
        let hosts = lab.hosts.iter().flat_map(|to| [to.address_v4(), to.address_v6()]);
        for to in hosts.chain([OUTSIDE_V4.into(), OUTSIDE_V6.into()]) {
            let address: IpAddr = to.parse()?;
            ensure!(
                prober.probe(address, Duration::from_secs(1))?.is_some(),
                "{} does not reach {to}",
                from.name
            );
        }
    }
    let host = lab.host(1)?;
    let seen = lab.outside.sources(|| {
        host.ping(From::Host, OUTSIDE_V4, 1)?;
        host.ping(From::Host, OUTSIDE_V6, 1).map(|_loss| ())
    })?;
    ensure!(seen.contains(&host.address_v4()) && seen.contains(&host.address_v6()), "outside saw {seen:?}");
    Ok(())
}

fn partition(lab: &Lab) -> Result<()> {
    let (a, b, c) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    lab.partition(1, 2)?;
    ensure!(a.ping(From::Host, &b.address_v4(), 2)?.all(), "a partition that lets packets through");
    ensure!(b.ping(From::Host, &a.address_v6(), 2)?.all(), "a partition that lets packets through");
    ensure!(a.ping(From::Host, &c.address_v4(), 2)?.none(), "a partition that separates a third host");
    lab.heal()?;
    ensure!(a.ping(From::Host, &b.address_v4(), 2)?.none(), "it is not healed");
    ensure!(a.exec_ok(&["nft", "list", "ruleset"])?.text().is_empty(), "a rule stays");
    Ok(())
}

fn loss(lab: &Lab) -> Result<()> {
    let (a, b) = (lab.host(1)?, lab.host(2)?);
    a.lose(50)?;
    let mut prober = a.prober(From::Host)?;
    let to: IpAddr = b.address_v4().parse()?;
    let mut answered = 0;
    for _ in 0..60 {
        answered += u32::from(prober.probe(to, Duration::from_millis(20))?.is_some());
    }
    ensure!((10..=50).contains(&answered), "{answered} of 60 answered, with half of them lost");
    lab.heal()
}

fn store(lab: &Lab) -> Result<()> {
    let etcd = lab.etcd()?;
    etcd.etcdctl(&["put", "key", "value"])?.ok()?;
    etcd.freeze()?;
    ensure!(!etcd.etcdctl(&["get", "key"])?.status.success(), "a frozen etcd answers");
    etcd.thaw()?;
    etcd.kill()?;
    ensure!(!etcd.etcdctl(&["get", "key"])?.status.success(), "a dead etcd answers");
    etcd.start_again()?;
    ensure!(etcd.etcdctl(&["get", "key"])?.ok()?.stdout.contains("value"), "the data is lost");
    Ok(())
}

fn nothing_stays(_outer: &Lab) -> Result<()> {
    let named =
        || -> Result<usize> { Ok(fs::read_dir("/run/netns")?.count() + fs::read_dir("/run/lab")?.count()) };
    let processes = || -> Result<usize> {
        let pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
        Ok(fs::read_dir("/proc")?
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(pid))
            .count())
    };
    let before = (named()?, processes()?);
    let lab = Lab::builder().hosts(2).agents(false).build()?;
    lab.host(1)?.exec_ok(&["ip", "netns", "add", "left"])?;
    lab.host(1)?.exec_ok(&["sh", "-c", "setsid sleep infinity >/dev/null 2>&1 &"])?;
    let ping = lab.host(2)?.ping_background(From::Host, &lab.host(1)?.address_v4())?;
    ensure!(named()? > before.0 && processes()? > before.1, "the lab is not seen");
    drop(lab);
    drop(ping);
    ensure!(named()? == before.0, "a namespace or a directory stays");
    wait_until("the number of processes to be as before", Duration::from_secs(5), || {
        Ok(processes()? <= before.1)
    })
}

fn state(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let before = host.kernel_state()?;
    let same = before.changes(&host.kernel_state()?);
    ensure!(same.is_empty(), "the state changes by itself:\n{same}");
    host.exec_ok(&["ip", "link", "add", "lab-x", "type", "bridge"])?;
    host.exec_ok(&["sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=1"])?;
    host.exec_ok(&["nft", "add", "table", "inet", "lab-x"])?;
    let changes = before.changes(&host.kernel_state()?);
    for wanted in ["lab-x", "eth0/rp_filter", "table inet lab-x"] {
        ensure!(changes.contains(wanted), "{wanted} is not among the changes:\n{changes}");
    }
    host.exec_ok(&["ip", "link", "del", "lab-x"])?;
    host.exec_ok(&["sysctl", "-qw", "net.ipv4.conf.eth0.rp_filter=0"])?;
    host.exec_ok(&["nft", "delete", "table", "inet", "lab-x"])?;
    let undone = before.changes(&host.kernel_state()?);
    ensure!(undone.is_empty(), "undone, and still there:\n{undone}");
    Ok(())
}

fn own_world(lab: &Lab) -> Result<()> {
    let (a, b) = (lab.host(1)?, lab.host(2)?);
    ensure!(
        a.exec_ok(&["hostname"])?.text() == "h1" && b.exec_ok(&["hostname"])?.text() == "h2",
        "hostnames"
    );
    a.exec_ok(&["ip", "netns", "add", "lab-box"])?;
    ensure!(a.netns_names()? == ["lab-box"] && b.netns_names()?.is_empty(), "named namespaces are shared");
    a.ns_exec_ok("lab-box", &["ip", "link", "set", "lo", "up"])?;
    let mut prober = a.prober(From::Sandbox("lab-box"))?;
    ensure!(
        prober.probe("127.0.0.1".parse()?, Duration::from_secs(1))?.is_some(),
        "the sandbox cannot be entered"
    );
    ensure!(
        prober.probe("10.77.0.1".parse()?, Duration::from_millis(10))?.is_none(),
        "it is the host's namespace"
    );
    ensure!(a.exec_ok(&["ls", "/sys/class/net"])?.text().contains("eth0"), "/sys is not the host's own");
    // Its files of /etc are its own too, and a file for a named namespace is seen in that one alone.
    a.write("/etc/resolv.conf", "nameserver 192.0.2.53\n")?;
    a.exec_ok(&[
        "sh",
        "-ec",
        "mkdir /etc/netns/lab-box; echo lab > /etc/netns/lab-box/hosts; echo lab > /etc/lab-new",
    ])?;
    ensure!(a.exec_ok(&["cat", "/etc/resolv.conf"])?.stdout.contains("192.0.2.53"), "it cannot be written");
    ensure!(!b.read("/etc/resolv.conf")?.contains("192.0.2.53"), "resolv.conf is shared");
    ensure!(
        a.ns_exec_ok("lab-box", &["cat", "/etc/hosts"])?.text() == "lab",
        "the namespace's file is not seen"
    );
    ensure!(a.read("/etc/hosts")?.contains("h1") && b.read("/etc/hosts")?.contains("h2"), "/etc/hosts");
    ensure!(!b.path("/etc/netns/lab-box").exists(), "/etc/netns is shared");
    let outermost = fs::read_to_string("/proc/1/mounts")?;
    ensure!(
        outermost.lines().any(|line| line.contains(" /etc tmpfs ")),
        "the real /etc is written:\n{outermost}"
    );
    Ok(())
}

fn servers(lab: &Lab) -> Result<()> {
    let (a, b) = (lab.host(1)?, lab.host(2)?);
    a.exec_ok(&["ip", "netns", "add", "lab-box"])?;
    a.ns_exec_ok("lab-box", &["ip", "link", "set", "lo", "up"])?;
    let _inside = a.echo(From::Sandbox("lab-box"), "inner", &["tcp/80"])?;
    let _on_host = a.echo(From::Host, "outer", &["tcp/80", "udp/80-81"])?;
    for (over, port) in [(Over::Tcp, 80), (Over::Udp, 80), (Over::Udp, 81)] {
        for (to, client) in [(a.address_v4(), b.address_v4()), (a.address_v6(), b.address_v6())] {
            let answer = ask(&b.netns(), over, SocketAddr::new(to.parse()?, port), PATIENT)?;
            let wanted = Answer::From { name: "outer".into(), client: client.parse()? };
            ensure!(answer == wanted, "{over:?} port {port} of {to}: {answer:?}");
        }
    }
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let inner = ask(&a.netns_of(From::Sandbox("lab-box")), Over::Tcp, local(80), PATIENT)?;
    ensure!(inner.is_from("inner"), "{inner:?}");
    let none = ask(&a.netns(), Over::Tcp, local(82), PATIENT)?;
    ensure!(none == Answer::Refused, "{none:?}");
    let curl = b.exec_ok(&["curl", "-s", "-m", "3", &format!("http://{}/", a.address_v4())])?;
    ensure!(curl.text().starts_with(&format!("outer {} ", b.address_v4())), "{curl}");
    let server = lab.outside.name_server(&["--host-record=www.example.test,192.0.2.80,2001:db8::80"])?;
    let dig = b.exec_ok(&["dig", "+short", "+tries=1", "+time=3", "www.example.test", "AAAA"])?;
    ensure!(dig.text() == "2001:db8::80", "{dig}\n{}", server.said());
    Ok(())
}

fn lan(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.exec_ok(&[
        "sh",
        "-ec",
        "ip netns add lab-box; ip link add link eth1 name eth0 netns lab-box type macvlan",
    ])?;
    let script = format!(
        "ip link set eth0 up; ip address add 203.0.113.77/24 dev eth0; ip route add default via {LAN_ROUTER_V4}"
    );
    host.ns_exec_ok("lab-box", &["sh", "-ec", &script])?;
    let _echo = host.echo(From::Sandbox("lab-box"), "inner", &["tcp/80"])?;
    let answer = ask(&lab.outside.netns(), Over::Tcp, "203.0.113.77:80".parse()?, PATIENT)?;
    ensure!(answer == Answer::From { name: "inner".into(), client: OUTSIDE_V4.parse()? }, "{answer:?}");
    Ok(())
}

fn mtu(lab: &Lab) -> Result<()> {
    let (a, b) = (lab.host(1)?, lab.host(2)?);
    ensure!(a.ping_df(From::Host, &b.address_v4(), 1400)?, "1400 bytes do not pass");
    ensure!(!a.ping_df(From::Host, &b.address_v4(), 1401)?, "1401 bytes pass");
    Ok(())
}

fn background(lab: &Lab) -> Result<()> {
    let (a, b) = (lab.host(1)?, lab.host(2)?);
    let mut ping = a.ping_background(From::Host, &b.address_v4())?;
    ping.wait_answers(30)?;
    let clean = ping.stop()?;
    ensure!(clean.none() && clean.sent >= 30, "{clean:?}");
    let mut ping = a.ping_background(From::Host, &b.address_v4())?;
    ping.wait_answers(10)?;
    a.isolate()?;
    a.ping(From::Host, &b.address_v4(), 2)?;
    lab.heal()?;
    ping.wait_answers(10)?;
    let lost = ping.stop()?;
    ensure!(lost.lost() > 5, "{lost:?}");
    Ok(())
}
