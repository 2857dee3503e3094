//! Published ports of overlays: on the endpoint's host, or on every host of the network.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    lab::{From, Lab, OUTSIDE_V4, OUTSIDE_V6, Service},
    talk::{Over, answers, answers_not, at, wait_answer},
};

use super::{publish, refused};

const BOTH: [Over; 2] = [Over::Tcp, Over::Udp];

/// `web` on the first host, `mate` on the second; the third host has nothing of the network.
fn set_up(lab: &Lab, options: &[&str]) -> Result<Service> {
    let subnets = ["--ipv6", "--subnet", "10.61.0.0/24", "--subnet", "fd61::/64"];
    lab.create_network(&[&["-d", "overlay"][..], &subnets, options, &["wide"]].concat())?;
    lab.host(2)?.create_sandbox("mate", &["wide"])?;
    publish(lab.host(1)?, "web", "wide", &["8080:80", "8080:80/udp"])?.ok()?;
    lab.host(1)?.echo(From::Sandbox("web"), "web", &["tcp/80", "udp/80"])
}

fn tear_down(lab: &Lab) -> Result<()> {
    lab.host(1)?.ovctl_ok(&["sandbox", "rm", "-f", "web"])?;
    lab.host(2)?.ovctl_ok(&["sandbox", "rm", "-f", "mate"])?;
    lab.host(1)?.ovctl_ok(&["network", "rm", "wide"])?;
    lab.hosts.iter().try_for_each(ovnet_integration::lab::Host::wait_in_sync)
}

pub(crate) fn local(lab: &Lab) -> Result<()> {
    let _web = set_up(lab, &[])?;
    let (h1, h2, out) = (lab.host(1)?, lab.host(2)?, lab.outside.netns());
    for over in BOTH {
        for (to, own) in [(h1.address_v4(), OUTSIDE_V4), (h1.address_v6(), OUTSIDE_V6)] {
            let seen = answers(&out, over, &at(&to, 8080), "web")?.to_string();
            ensure!(seen == own, "the endpoint sees {seen}, not {own}, by {over:?}");
        }
        for to in [h1.address_v4(), h1.address_v6(), "127.0.0.1".into()] {
            answers(&h1.netns(), over, &at(&to, 8080), "web")?;
        }
        answers_not(&out, over, &at(&h2.address_v4(), 8080))?;
        // From the network itself, by way of the host, and from another one here.
        answers(&h2.netns_of(From::Sandbox("mate")), over, &at(&h1.address_v4(), 8080), "web")?;
        answers(&h1.netns_of(From::Sandbox("web")), over, &at(&h1.address_v4(), 8080), "web")?;
    }
    h1.create_sandbox("stranger", &["bridge"])?;
    answers(&h1.netns_of(From::Sandbox("stranger")), Over::Tcp, &at(&h1.address_v4(), 8080), "web")?;
    h1.ovctl_ok(&["sandbox", "rm", "-f", "stranger"])?;
    tear_down(lab)
}

pub(crate) fn mesh(lab: &Lab) -> Result<()> {
    let _web = set_up(lab, &["-o", "ovnet.publish=mesh"])?;
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    let out = lab.outside.netns();
    for over in BOTH {
        for to in [h2.address_v4(), h2.address_v6()] {
            answers(&out, over, &at(&to, 8080), "web").context("on the host without the endpoint")?;
        }
        // Where the endpoint is, the client's own address is kept.
        for (to, own) in [(h1.address_v4(), OUTSIDE_V4), (h1.address_v6(), OUTSIDE_V6)] {
            let seen = answers(&out, over, &at(&to, 8080), "web")?.to_string();
            ensure!(seen == own, "the endpoint sees {seen}, not {own}, by {over:?}");
        }
        answers(&h2.netns(), over, "127.0.0.1:8080", "web")?;
        answers_not(&out, over, &at(&h3.address_v4(), 8080))?;
    }
    // A host that gets an endpoint of the network has the port, and loses it with its last one.
    h3.create_sandbox("late", &["wide"])?;
    let there = at(&h3.address_v4(), 8080);
    wait_answer(&out, Over::Tcp, there.parse()?, "web", Duration::from_secs(5))?;
    h3.ovctl_ok(&["sandbox", "rm", "-f", "late"])?;
    answers_not(&out, Over::Tcp, &there)?;
    tear_down(lab)
}

pub(crate) fn taken(lab: &Lab) -> Result<()> {
    let _web = set_up(lab, &["-o", "ovnet.publish=mesh"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    for host in [h1, h2] {
        refused(&publish(host, "again", "wide", &["8080:81"])?, &["8080", "web", "wide"])?;
    }
    refused(&publish(h2, "again", "bridge", &["8080:81"])?, &["8080", "web", "wide"])?;
    tear_down(lab)
}

pub(crate) fn flush(lab: &Lab) -> Result<()> {
    let _web = set_up(lab, &[])?;
    let host = lab.host(1)?;
    host.exec_ok(&["nft", "flush", "ruleset"])?;
    let to = at(&host.address_v4(), 8080).parse()?;
    wait_answer(&lab.outside.netns(), Over::Tcp, to, "web", Duration::from_secs(5))?;
    // The network's own namespace has its part of the way. Nobody flushes there, and a look finds it.
    let namespaces = host.netns_names()?;
    let network = namespaces.iter().find(|name| name.starts_with("ov-")).context("no network namespace")?;
    host.ns_exec_ok(network, &["nft", "flush", "ruleset"])?;
    let diff = host.ovctl_ok(&["diff"])?;
    ensure!(diff.stdout.contains("table"), "diff does not show it: {diff}");
    wait_answer(&lab.outside.netns(), Over::Tcp, to, "web", Duration::from_secs(5))?;
    tear_down(lab)
}
