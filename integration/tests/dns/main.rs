//! The resolver at 127.0.0.11: names of endpoints on all hosts, what it asks of others, and that it stays.

mod names;
mod outside;
mod own;
mod stay;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    dns::{self, Kind, RESOLVER, Reply},
    frame::{self, Test},
    lab::{From, Host, Lab},
};

/// How long an answer may take before it counts as none.
const LIMIT: Duration = Duration::from_secs(6);
/// "At once": nobody else was asked, or who was asked answered.
const AT_ONCE: Duration = Duration::from_millis(300);

fn main() -> Result<()> {
    let mut tests = Test::on_one(
        Lab::builder().hosts(2),
        [
            ("names of all hosts resolve in both families and back", names::names as fn(&Lab) -> Result<()>),
            ("a name resolves everywhere no later than connect returns", names::no_later),
            ("endpoints of one alias take turns", names::rotation),
            ("published ports are services", names::services),
            ("a sandbox knows the names of its own networks alone", names::own_networks),
            ("dig and curl find a sandbox by its name", names::programs),
            ("names go with their endpoints", names::gone),
            ("an adopted process has the resolver too", names::adopted),
            ("port 53 is free for a sandbox's own program and nothing is tracked", own::port),
            ("without an agent a question is refused at once", own::nobody),
            ("nothing is left of the resolver of a process that has ended", stay::ended),
            ("what is not ours is asked of the host's servers and kept", outside::forwarded),
            ("a sandbox's own servers are asked from its namespace", outside::own_servers),
            ("answers that are too long come over tcp", outside::long),
            ("a dead server costs no seconds beside one that answers", outside::dead_beside_live),
            ("with all servers dead the answer is a failure within seconds", outside::all_dead),
            ("an answer to another question is not taken", outside::spoofed),
            ("hostile packets are dropped and the resolver goes on", stay::hostile),
            ("names go on while etcd is away", stay::etcd_away),
            ("the silence of a restart is short", stay::restart),
        ],
    );
    let quick = Lab::builder().agent_args(&["--lease-ttl", "5"]);
    tests.push(Test::new("the names of a dead host go", quick, stay::dead_host));
    frame::run(tests)
}

/// A question from a sandbox to its resolver; the answer must come.
fn ask(host: &Host, sandbox: &str, name: &str, kind: Kind) -> Result<Reply> {
    dns::ask(&host.netns_of(From::Sandbox(sandbox)), RESOLVER, (name, kind), LIMIT)?
        .with_context(|| format!("no answer for {name} {kind:?} in {sandbox} on {}", host.name))
}

/// The answer must be these, in any order.
fn says(host: &Host, sandbox: &str, (name, kind): (&str, Kind), wanted: &[&str]) -> Result<Reply> {
    let reply = ask(host, sandbox, name, kind)?;
    let (mut said, mut wanted) = (reply.said(), wanted.to_vec());
    said.sort_unstable();
    wanted.sort_unstable();
    ensure!(
        reply.code == dns::NOERROR && said == wanted,
        "{name} {kind:?} is to be {wanted:?} in {sandbox} on {}: {reply:?}",
        host.name
    );
    Ok(reply)
}

/// An overlay with both families that all hosts know.
fn wide(lab: &Lab, number: u8, name: &str) -> Result<()> {
    let (v4, v6) = (format!("10.{number}.0.0/24"), format!("fd{number}::/64"));
    lab.create_network(&["-d", "overlay", "--ipv6", "--subnet", &v4, "--subnet", &v6, name]).map(|_id| ())
}

fn remove(lab: &Lab, sandboxes: &[(usize, &str)], networks: &[&str]) -> Result<()> {
    for (host, sandbox) in sandboxes {
        lab.host(*host)?.ovctl_ok(&["sandbox", "rm", "-f", sandbox])?;
    }
    lab.host(1)?.ovctl_ok(&[&["network", "rm"][..], networks].concat()).map(|_done| ())
}
