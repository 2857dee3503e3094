//! Who reaches a published port of a bridge, and whom the endpoint sees.

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab, OUTSIDE_V4, OUTSIDE_V6, Service},
    talk::{Over, answers, answers_not, at},
};

use super::{bridge, publish, remove};

/// `web` on `net`, at 8080 over both protocols.
fn web(host: &Host) -> Result<Service> {
    bridge(host, 51, "net")?;
    publish(host, "web", "net", &["8080:80", "8080:80/udp"])?.ok()?;
    host.echo(From::Sandbox("web"), "web", &["tcp/80", "udp/80"])
}

const BOTH: [Over; 2] = [Over::Tcp, Over::Udp];

pub(crate) fn outside(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let _web = web(host)?;
    for over in BOTH {
        for (to, own) in [
            (host.address_v4(), OUTSIDE_V4),
            (host.address_v6(), OUTSIDE_V6),
            ("203.0.113.1".into(), OUTSIDE_V4),
        ] {
            let seen = answers(&lab.outside.netns(), over, &at(&to, 8080), "web")?.to_string();
            ensure!(seen == own, "the endpoint sees {seen}, not {own}, by {over:?} at {to}");
        }
        // Nothing but that port came in.
        answers_not(&lab.outside.netns(), over, &at(&host.address_v4(), 80))?;
    }
    remove(host, &["web"], &["net"])
}

pub(crate) fn host(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let _web = web(host)?;
    for over in BOTH {
        for to in [
            host.address_v4(),
            host.address_v6(),
            "127.0.0.1".into(),
            "203.0.113.1".into(),
            "10.51.0.1".into(),
        ] {
            answers(&host.netns(), over, &at(&to, 8080), "web")?;
        }
    }
    loopback_is_private(host)?;
    remove(host, &["web"], &["net"])
}

/// A sandbox can be made to send to 127.0.0.0/8 by its gateway, and the bridge accepts such packets for the published ports;
/// what listens on the host's loopback must not get them.
fn loopback_is_private(host: &Host) -> Result<()> {
    let script =
        "ip route del table local local 127.0.0.0/8 dev lo; ip route del table local local 127.0.0.1 dev lo
        ip route add 127.0.0.1/32 via 10.51.0.1";
    host.ns_exec_ok("web", &["sh", "-ec", script])?;
    let counter = "table inet lab-seen { chain early { type filter hook prerouting priority -400;
        iifname != lo ip daddr 127.0.0.1 counter; }; }";
    host.program("nft").args(["-f", "-"]).input(counter).ok()?;
    let _private = host.echo(From::Host, "private", &["tcp/9999", "udp/9999"])?;
    for over in BOTH {
        answers(&host.netns(), over, "127.0.0.1:9999", "private")?;
        answers_not(&host.netns_of(From::Sandbox("web")), over, "127.0.0.1:9999")?;
    }
    let seen = host.exec_ok(&["nft", "list", "table", "inet", "lab-seen"])?;
    ensure!(!seen.stdout.contains("packets 0 "), "none of them has come to the host: {seen}");
    host.exec_ok(&["nft", "delete", "table", "inet", "lab-seen"]).map(|_done| ())
}

pub(crate) fn hairpin(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let _web = web(host)?;
    bridge(host, 52, "other")?;
    host.create_sandbox("mate", &["net"])?;
    host.create_sandbox("stranger", &["other"])?;
    for from in ["mate", "stranger", "web"] {
        let netns = host.netns_of(From::Sandbox(from));
        for over in BOTH {
            for to in [host.address_v4(), host.address_v6(), "10.51.0.1".into(), "fd51::1".into()] {
                answers(&netns, over, &at(&to, 8080), "web").with_context(|| format!("from {from}"))?;
            }
        }
    }
    // The port, and no other way, leads from one network to another.
    let inner = host.address("net", "web")?;
    answers_not(&host.netns_of(From::Sandbox("stranger")), Over::Tcp, &at(&inner, 80))?;
    remove(host, &["web", "mate", "stranger"], &["net", "other"])
}

pub(crate) fn bound(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    let (v4, v6) = (host.address_v4(), host.address_v6());
    let ports = [
        format!("{v4}:8081:80"),
        "127.0.0.1:8082:80".into(),
        format!("[{v6}]:8083:80"),
        "0.0.0.0:8084:80".into(),
    ];
    publish(host, "web", "net", &ports.each_ref().map(String::as_str))?.ok()?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80"])?;
    let (out, own) = (lab.outside.netns(), host.netns());
    for (netns, to, port, reached) in [
        (&out, v4.as_str(), 8081, true),
        (&own, &v4, 8081, true),
        (&out, "203.0.113.1", 8081, false),
        (&own, "127.0.0.1", 8081, false),
        (&own, "127.0.0.1", 8082, true),
        (&own, &v4, 8082, false),
        (&out, &v4, 8082, false),
        (&out, &v6, 8083, true),
        (&own, &v6, 8083, true),
        (&out, &v4, 8083, false),
        (&out, &v4, 8084, true),
        (&own, "127.0.0.1", 8084, true),
    ] {
        let to = at(to, port);
        if reached {
            answers(netns, Over::Tcp, &to, "web").map(|_seen| ())
        } else {
            answers_not(netns, Over::Tcp, &to)
        }?;
    }
    remove(host, &["web"], &["net"])
}

/// Host ports of an endpoint, with the endpoint's.
fn ports(host: &Host, network: &str, sandbox: &str) -> Result<Vec<(u16, u16)>> {
    let port = |number: u32| u16::try_from(number).context("a port");
    let listed = host.endpoint(network, sandbox)?.ports;
    listed.iter().map(|published| Ok((port(published.host_port)?, port(published.port)?))).collect()
}

pub(crate) fn ranges(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    publish(host, "a", "net", &["9000-9003:7000-7003", "9100-9101:80"])?.ok()?;
    publish(host, "b", "net", &["9100-9101:80"])?.ok()?;
    let _a = host.echo(From::Sandbox("a"), "a", &["tcp/7000-7003", "tcp/80"])?;
    let _b = host.echo(From::Sandbox("b"), "b", &["tcp/80"])?;
    let (out, own) = (lab.outside.netns(), host.address_v4());
    for port in 9000..=9003 {
        answers(&out, Over::Tcp, &at(&own, port), "a")?;
    }
    answers(&out, Over::Tcp, &at(&own, 9100), "a")?;
    answers(&out, Over::Tcp, &at(&own, 9101), "b")?;
    let third = publish(host, "c", "net", &["9100-9101:80"])?;
    super::refused(&third, &["9100", "9101"])?;
    remove(host, &["a", "b"], &["net"])
}

pub(crate) fn exposed(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    host.ovctl_ok(&[
        "sandbox",
        "create",
        "--network",
        "net",
        "-P",
        "--expose",
        "80",
        "--expose",
        "90-91",
        "web",
    ])?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80", "tcp/90-91"])?;
    let published = ports(host, "net", "web")?;
    let inner: Vec<u16> = published.iter().map(|(_host, port)| *port).collect();
    ensure!(inner == [80, 90, 91], "{published:?}");
    let range = host.read("/proc/sys/net/ipv4/ip_local_port_range")?;
    let bounds: Vec<u16> = range.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    for (port, _inner) in published {
        ensure!((bounds[0]..=bounds[1]).contains(&port), "{port} is not of {range}");
        answers(&lab.outside.netns(), Over::Tcp, &at(&host.address_v4(), port), "web")?;
        answers(&lab.outside.netns(), Over::Tcp, &at(&host.address_v6(), port), "web")?;
    }
    // One port of the host may be chosen as well.
    host.ovctl_ok(&["sandbox", "create", "--network", "net", "-p", "80", "any"])?;
    let [(port, 80)] = ports(host, "net", "any")?[..] else {
        anyhow::bail!("-p 80: {:?}", ports(host, "net", "any"))
    };
    let _any = host.echo(From::Sandbox("any"), "any", &["tcp/80"])?;
    answers(&lab.outside.netns(), Over::Tcp, &at(&host.address_v4(), port), "any")?;
    remove(host, &["web", "any"], &["net"])
}

pub(crate) fn attachment(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    host.create_sandbox("web", &["bridge"])?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80"])?;
    let to = at(&host.address_v4(), 8085);
    for _round in 0..2 {
        host.ovctl_ok(&["network", "connect", "-p", "8085:80", "net", "web"])?;
        answers(&lab.outside.netns(), Over::Tcp, &to, "web")?;
        host.ovctl_ok(&["network", "disconnect", "net", "web"])?;
        answers_not(&lab.outside.netns(), Over::Tcp, &to)?;
        answers_not(&host.netns(), Over::Tcp, &at("127.0.0.1", 8085))?;
    }
    remove(host, &["web"], &["net"])
}

pub(crate) fn curl(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    host.ovctl_ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "--network",
        "net",
        "-p",
        "8086:80",
        "--",
        "sleep",
        "infinity",
    ])?;
    let _web = host.echo(From::Sandbox("web"), "web", &["tcp/80"])?;
    for to in [host.address_v4(), format!("[{}]", host.address_v6())] {
        let page = lab.outside.program("curl").args(["-s", "-m", "3", &format!("http://{to}:8086/")]).ok()?;
        ensure!(page.text().starts_with("web "), "{page}");
    }
    let shown = host.ovctl_ok(&["sandbox", "inspect", "web"])?.stdout;
    ensure!(shown.contains("8086"), "inspect does not show the port:\n{shown}");
    remove(host, &["web"], &["net"])
}
