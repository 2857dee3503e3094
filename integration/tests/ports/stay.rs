//! Ports come back when the host's rules were flushed, and need no agent to go on.

use std::time::{Duration, Instant};

use anyhow::Result;
use ovnet_integration::{
    lab::{From, Host, Lab, Service},
    talk::{Over, answers, at, wait_answer},
};

use super::{bridge, publish, remove};

/// How long what was flushed may be away.
const SECONDS: Duration = Duration::from_secs(5);

fn web(host: &Host) -> Result<Service> {
    bridge(host, 51, "net")?;
    publish(host, "web", "net", &["8080:80"])?.ok()?;
    host.echo(From::Sandbox("web"), "web", &["tcp/80"])
}

pub(crate) fn flush(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let _web = web(host)?;
    let out = lab.outside.netns();
    for (what, command) in
        [("nft flush ruleset", "nft flush ruleset"), ("our table deleted", "nft delete table inet ovnet")]
    {
        let start = Instant::now();
        host.exec_ok(&["sh", "-c", command])?;
        for to in [host.address_v4(), host.address_v6()] {
            wait_answer(&out, Over::Tcp, at(&to, 8080).parse()?, "web", SECONDS)?;
        }
        eprintln!("   {what}: back after {} ms", start.elapsed().as_millis());
    }
    answers(&host.netns(), Over::Tcp, "127.0.0.1:8080", "web")?;
    remove(host, &["web"], &["net"])
}

pub(crate) fn away(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    let _web = web(host)?;
    let out = lab.outside.netns();
    host.kill9_agent();
    for to in [host.address_v4(), host.address_v6()] {
        answers(&out, Over::Tcp, &at(&to, 8080), "web")?;
    }
    // What is flushed meanwhile is mended by the start.
    host.exec_ok(&["nft", "flush", "ruleset"])?;
    host.start_agent()?;
    host.wait_ready()?;
    wait_answer(&out, Over::Tcp, at(&host.address_v4(), 8080).parse()?, "web", SECONDS)?;
    remove(host, &["web"], &["net"])
}
