//! Published ports: who reaches them from where, whom the endpoint sees, who may have them, and that they come back.

mod many;
mod overlay;
mod reach;
mod stay;
mod taken;

use anyhow::{Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{Host, Lab},
    program::Done,
};

fn main() -> Result<()> {
    let one = || Lab::builder().hosts(1).etcd(false).lan(true);
    let mut tests = Test::on_one(
        one(),
        [
            (
                "a port is reached from outside with the client's own address",
                reach::outside as fn(&Lab) -> Result<()>,
            ),
            ("a port is reached from the host by its addresses and by 127.0.0.1", reach::host),
            ("a port is reached from sandboxes of its own and of other networks", reach::hairpin),
            ("a port on one address of the host is reached by that alone", reach::bound),
            ("ranges are published port by port or by the first free one", reach::ranges),
            ("all exposed ports are published at free ones", reach::exposed),
            ("a port comes and goes with its endpoint's attachment", reach::attachment),
            ("curl gets a page from a sandbox that run has started", reach::curl),
            ("a taken port names the endpoint that has it", taken::by_endpoint),
            ("a taken port names the host's process that has it", taken::by_process),
            ("one port is given to one of many that ask at the same time", taken::race),
            ("a thousand ports are published at once, and nobody waits for them", many::at_once),
            ("ports are refused where nothing could reach them", taken::nowhere),
            ("ports come back after the host's rules were flushed", stay::flush),
            ("ports go on while the agent is away", stay::away),
        ],
    );
    tests.extend(Test::on_one(
        Lab::builder(),
        [
            (
                "a port of an overlay is published on the endpoint's host alone",
                overlay::local as fn(&Lab) -> Result<()>,
            ),
            ("a port of an overlay is published on every host of it if asked", overlay::mesh),
            ("a port of a mesh is taken on every host", overlay::taken),
            ("ports of an overlay come back after a flush", overlay::flush),
        ],
    ));
    frame::run(tests)
}

/// The names of the two families of a subnet pair, as `network create` takes them.
fn bridge(host: &Host, number: u8, name: &str) -> Result<()> {
    let (v4, v6) = (format!("10.{number}.0.0/24"), format!("fd{number}::/64"));
    let args = ["network", "create", "-d", "bridge", "--ipv6", "--subnet", &v4, "--subnet", &v6, name];
    host.ovctl_ok(&args).map(|_done| ())
}

/// `sandbox create` on a network with these ports.
fn publish(host: &Host, name: &str, network: &str, ports: &[&str]) -> Result<Done> {
    let mut args = vec!["sandbox", "create", "--network", network];
    args.extend(ports.iter().flat_map(|port| ["-p", port]));
    args.push(name);
    host.ovctl(&args)
}

/// A refusal that has all of these.
fn refused(done: &Done, words: &[&str]) -> Result<()> {
    ensure!(done.code() == 1 && done.stdout.is_empty(), "not refused: {done}");
    for word in words {
        ensure!(done.stderr.contains(word), "it does not say {word:?}: {done}");
    }
    Ok(())
}

fn remove(host: &Host, sandboxes: &[&str], networks: &[&str]) -> Result<()> {
    host.ovctl_ok(&[&["sandbox", "rm", "-f"][..], sandboxes].concat())?;
    if !networks.is_empty() {
        host.ovctl_ok(&[&["network", "rm"][..], networks].concat())?;
    }
    host.wait_in_sync()
}
