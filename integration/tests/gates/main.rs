//! What lets in: attacks on the agent's ports, from sandboxes, from strangers on the underlay and from neighbours on the LAN.

mod connections;
mod neighbours;
mod router;
mod store;
mod tunnel;

use anyhow::{Context, Result};
use ovnet_integration::{
    frame::{self, Test},
    lab::{Host, Lab},
};

fn main() -> Result<()> {
    let two = || Lab::builder().hosts(2);
    let strangers = || Lab::builder().agents(false);
    let one = || Lab::builder().hosts(1).etcd(false);
    let mut tests = vec![
        Test::new("only nodes send into an overlay", strangers(), tunnel::members),
        Test::new(
            "only nodes send into an overlay over IPv6",
            strangers().ipv6_underlay(true),
            tunnel::members,
        ),
        Test::new("no sandbox sends into an overlay from outside", two(), tunnel::sandboxes),
        Test::new("the served store is for hosts", strangers().etcd(false), store::served),
        Test::new("a host that was no router is none for strangers", two(), router::strangers),
        Test::new("a port on 127.0.0.1 is not reached by a neighbour", two(), router::loopback),
    ];
    tests.extend(Test::on_one(
        one().lan(true),
        [
            ("no sandbox plays a router for its neighbours", neighbours::routers as fn(&Lab) -> Result<()>),
            ("an adopted sandbox is kept from routers on our links only", neighbours::adopted),
            ("a client follows its port to another sandbox at once", connections::port),
            ("who gets an address gets nothing that was sent to the one before", connections::address),
            ("nothing leaves a network with a sandbox's own address", connections::astray),
        ],
    ));
    frame::run(tests)
}

/// Have a namespace count packets that meet this condition where it takes them in; `netns`: a sandbox of the host.
fn count(host: &Host, netns: Option<&str>, condition: &str) -> Result<()> {
    let table = format!(
        "table inet lab {{ chain in {{ type filter hook input priority 0; {condition} counter; }}; }}"
    );
    let program = match netns {
        Some(sandbox) => host.sandbox_program(sandbox, "nft"),
        None => host.program("nft"),
    };
    program.args(["-f", "-"]).input(&table).ok().map(|_done| ())
}

/// How many of them there were.
fn counted(host: &Host, netns: Option<&str>) -> Result<u64> {
    let list = ["nft", "list", "table", "inet", "lab"];
    let listed = match netns {
        Some(sandbox) => host.ns_exec_ok(sandbox, &list)?,
        None => host.exec_ok(&list)?,
    };
    let count = listed.stdout.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.context("no counter")?.parse().context("a counter")
}
