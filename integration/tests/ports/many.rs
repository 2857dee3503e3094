//! Very many ports at once.

use std::time::Instant;

use anyhow::{Result, ensure};
use ovnet_integration::{
    lab::{From, Lab},
    meanwhile::{longest, waits},
    talk::{Over, answers, at},
};

use super::{bridge, publish, remove};

pub(crate) fn at_once(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    bridge(host, 51, "net")?;
    let start = Instant::now();
    let (published, waits) =
        waits(host, || publish(host, "web", "net", &["20000-20999:20000-20999", "30000-30099:53/udp"]))?;
    let took = start.elapsed().as_secs_f64() * 1000.0;
    published.ok()?;
    eprintln!("   {took:.0} ms; {} answers meanwhile, the last after {:.0} ms", waits.len(), longest(&waits));
    // Of a busy machine both times are longer.
    ensure!(
        longest(&waits) < took / 2.0,
        "a second client waited {:.0} ms of the {took:.0} ms that the publishing took",
        longest(&waits)
    );
    let _echo = host.echo(From::Sandbox("web"), "web", &["tcp/20000", "tcp/20999"])?;
    for port in [20_000, 20_999] {
        answers(&lab.outside.netns(), Over::Tcp, &at(&host.address_v4(), port), "web")?;
    }
    remove(host, &["web"], &["net"])
}
