//! Names of endpoints.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    dns::{self, Kind, NOERROR, NXDOMAIN, RESOLVER, reverse},
    lab::{From, Lab},
    wait::{Poll, wait_for, wait_until},
};

use super::{AT_ONCE, LIMIT, ask, remove, says, wide};

pub(crate) fn names(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    h1.ovctl_ok(&["sandbox", "create", "--network", "wide", "--alias", "www", "--alias", "shop", "web"])?;
    h2.create_sandbox("client", &["wide"])?;
    h1.create_sandbox("neighbour", &["wide"])?;
    let endpoint = h1.endpoint("wide", "web")?;
    let (v4, v6) = (h1.address("wide", "web")?, h1.address6("wide", "web")?);
    for (host, sandbox) in [(h2, "client"), (h1, "neighbour"), (h1, "web")] {
        for name in ["web", "www", "shop", &endpoint.id[..12], "web.wide", "shop.wide", "WEB.Wide"] {
            let reply = says(host, sandbox, (name, Kind::A), &[&v4])?;
            says(host, sandbox, (name, Kind::Aaaa), &[&v6])?;
            ensure!(reply.answers.iter().all(|(_text, ttl)| *ttl <= 60), "it is kept too long: {reply:?}");
            ensure!(reply.took < AT_ONCE, "{name} took {:?}", reply.took);
        }
        for address in [&v4, &v6] {
            says(host, sandbox, (&reverse(address)?, Kind::Ptr), &["web.wide."])?;
        }
        let over_tcp =
            dns::ask_tcp(&host.netns_of(From::Sandbox(sandbox)), RESOLVER, ("web", Kind::A), LIMIT)?;
        ensure!(over_tcp.said() == [v4.as_str()], "over TCP: {over_tcp:?}");
    }
    // The family or the type that a name does not have is an empty answer at once, never "no such name".
    lab.create_network(&["-d", "overlay", "--subnet", "10.82.0.0/24", "four"])?;
    h2.create_sandbox("single", &["four"])?;
    for (name, kind) in [("single", Kind::Aaaa), ("single.four", Kind::Aaaa), ("single", Kind::Txt)] {
        let reply = ask(h2, "single", name, kind)?;
        let empty = reply.code == NOERROR && reply.answers.is_empty();
        ensure!(empty && reply.took < AT_ONCE, "{name} {kind:?}: {reply:?}");
    }
    let unknown = ask(h2, "single", &reverse("10.82.0.200")?, Kind::Ptr)?;
    ensure!(unknown.code == NXDOMAIN && unknown.took < AT_ONCE, "{unknown:?}");
    remove(lab, &[(1, "web"), (1, "neighbour"), (2, "client"), (2, "single")], &["wide", "four"])
}

pub(crate) fn no_later(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    h2.create_sandbox("client", &["wide"])?;
    h1.create_sandbox("web", &[])?;
    let (api, netns) = (h1.api()?, h2.netns_of(From::Sandbox("client")));
    for _round in 0..30 {
        let reply = api.connect("wide", "web")?;
        ensure!(reply.unconfirmed.is_empty(), "not confirmed by {:?}", reply.unconfirmed);
        let address = ovnet_integration::api::address(&reply.endpoint.context("no endpoint")?, false);
        let said = dns::ask(&netns, RESOLVER, ("web", Kind::A), LIMIT)?.context("no answer")?;
        ensure!(said.said().first().map(ToString::to_string) == address, "not {address:?}: {said:?}");
        api.disconnect("wide", "web")?;
    }
    remove(lab, &[(1, "web"), (2, "client")], &["wide"])
}

pub(crate) fn rotation(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    for (host, name) in [(h1, "one"), (h1, "two"), (h2, "three")] {
        host.ovctl_ok(&["sandbox", "create", "--network", "wide", "--alias", "pool", name])?;
    }
    h2.create_sandbox("client", &["wide"])?;
    let all = [h1.address("wide", "one")?, h1.address("wide", "two")?, h2.address("wide", "three")?];
    let all = all.each_ref().map(String::as_str);
    let mut first = BTreeSet::new();
    for _question in 0..12 {
        let reply = says(h2, "client", ("pool", Kind::A), &all)?;
        first.extend(reply.said().first().map(ToString::to_string));
    }
    ensure!(first.len() == all.len(), "only {first:?} come first");
    remove(lab, &[(1, "one"), (1, "two"), (2, "three"), (2, "client")], &["wide"])
}

pub(crate) fn services(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    h1.ovctl_ok(&["sandbox", "create", "--network", "wide", "-p", "8080:80", "-p", "5353:53/udp", "web"])?;
    h2.create_sandbox("client", &["wide"])?;
    for name in ["_80._tcp.web", "_80._tcp.web.wide"] {
        says(h2, "client", (name, Kind::Srv), &["0 0 80 web.wide."])?;
    }
    says(h2, "client", ("_53._udp.web", Kind::Srv), &["0 0 53 web.wide."])?;
    let none = ask(h2, "client", "_81._tcp.web", Kind::Srv)?;
    ensure!(none.code == NXDOMAIN, "{none:?}");
    remove(lab, &[(1, "web"), (2, "client")], &["wide"])
}

pub(crate) fn own_networks(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    h1.ovctl_ok(&["network", "create", "-d", "bridge", "--ipv6", "near"])?;
    h1.create_sandbox("both", &["wide", "near"])?;
    h1.create_sandbox("here", &["near"])?;
    h2.create_sandbox("there", &["wide"])?;
    says(h1, "both", ("here", Kind::A), &[&h1.address("near", "here")?])?;
    says(h1, "both", ("here", Kind::Aaaa), &[&h1.address6("near", "here")?])?;
    says(h1, "both", ("there", Kind::A), &[&h2.address("wide", "there")?])?;
    says(h1, "here", ("both", Kind::A), &[&h1.address("near", "both")?])?;
    says(h2, "there", ("both", Kind::A), &[&h1.address("wide", "both")?])?;
    for (host, sandbox, name) in [(h1, "here", "there"), (h2, "there", "here"), (h2, "there", "here.near")] {
        let reply = ask(host, sandbox, name, Kind::A)?;
        ensure!(reply.code != NOERROR && reply.answers.is_empty(), "{sandbox} knows {name}: {reply:?}");
    }
    // In the network `bridge` nobody has a name, as with Docker.
    h1.create_sandbox("plain", &["bridge"])?;
    let resolver = h1.ns_exec_ok("plain", &["cat", "/etc/resolv.conf"])?.stdout;
    ensure!(!resolver.contains("127.0.0.11"), "a resolver without names:\n{resolver}");
    remove(lab, &[(1, "both"), (1, "here"), (1, "plain"), (2, "there")], &["wide", "near"])
}

pub(crate) fn programs(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    h1.create_sandbox("web", &["wide"])?;
    h2.ovctl_ok(&["run", "-d", "--name", "client", "--network", "wide", "--", "sleep", "infinity"])?;
    let _web = h1.echo(From::Sandbox("web"), "web", &["tcp/80"])?;
    let address = h1.address("wide", "web")?;
    for options in [&["+notcp"][..], &["+tcp"], &["+bufsize=512"]] {
        let dig = ["dig", "+short", "+search", "+tries=1", "+time=3", "web"];
        let done = h2.ns_exec_ok("client", &[&dig[..], options].concat())?;
        ensure!(done.text() == address, "{done}");
    }
    for (family, own) in [("-4", h2.address("wide", "client")?), ("-6", h2.address6("wide", "client")?)] {
        for name in ["web", "web.wide"] {
            let url = format!("http://{name}/");
            let page = h2.ovctl_ok(&["exec", "client", "--", "curl", "-s", "-m", "3", family, &url])?;
            ensure!(page.text().starts_with(&format!("web {own} ")), "{page}");
        }
    }
    remove(lab, &[(1, "web"), (2, "client")], &["wide"])
}

pub(crate) fn gone(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    wide(lab, 81, "wide")?;
    h2.create_sandbox("client", &["wide"])?;
    h1.create_sandbox("web", &["wide"])?;
    says(h2, "client", ("web", Kind::A), &[&h1.address("wide", "web")?])?;
    h1.ovctl_ok(&["sandbox", "rm", "-f", "web"])?;
    wait_for("the name to go", Duration::from_secs(2), || {
        let reply = ask(h2, "client", "web", Kind::A)?;
        Ok(if reply.answers.is_empty() { Poll::Ready(()) } else { Poll::Pending(format!("{reply:?}")) })
    })?;
    remove(lab, &[(2, "client")], &["wide"])
}

pub(crate) fn adopted(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    wide(lab, 81, "wide")?;
    host.create_sandbox("web", &["wide"])?;
    let script = "unshare --net sh -c 'ip link set lo up; exec sleep infinity' >/dev/null 2>&1 & echo $!";
    let pid = host.exec_ok(&["sh", "-c", script])?.text().to_string();
    let netns = std::path::PathBuf::from(format!("/proc/{pid}/ns/net"));
    let own = fs::read_link(host.netns())?;
    wait_until("the process to be in its namespace", Duration::from_secs(5), || {
        Ok(fs::read_link(&netns)? != own)
    })?;
    host.ovctl_ok(&["sandbox", "create", "--pid", &pid, "--network", "wide", "job"])?;
    let reply = dns::ask(&netns, RESOLVER, ("web", Kind::A), LIMIT)?.context("no answer")?;
    ensure!(reply.said() == [host.address("wide", "web")?], "{reply:?}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "job"])?;
    let silent = dns::ask(&netns, RESOLVER, ("web", Kind::A), AT_ONCE)?;
    ensure!(silent.is_none(), "the resolver stays in a namespace that is not ours: {silent:?}");
    host.exec_ok(&["kill", "-9", &pid])?;
    remove(lab, &[(1, "web")], &["wide"])
}
