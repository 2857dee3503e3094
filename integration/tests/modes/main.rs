//! Every mode of a network: what a sandbox in it has, whom it reaches, and what is left when it goes.

mod all;
mod bridge;
mod mixed;
mod parent;
mod plain;

use anyhow::{Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{Host, KernelState, Lab},
};

fn main() -> Result<()> {
    let one = || Lab::builder().hosts(1).etcd(false);
    let mut tests = Test::on_one(
        one().lan(true),
        [
            ("none is a sandbox with lo alone", plain::none as fn(&Lab) -> Result<()>),
            ("host is a process on the host's own network", plain::host),
            ("container shares a namespace and goes on when the first one leaves", plain::container),
            (
                "a sandbox that others share can be in no other way removed or connected",
                plain::container_bounds,
            ),
            ("p2p joins two sandboxes and no third", plain::p2p),
            ("the network bridge is there from the start and its link comes and goes", bridge::default),
            ("a bridge reaches its own, the host and the outside over both families", bridge::user_defined),
            ("a bridge with a name of its own has it", bridge::named),
            ("masquerade is a choice of each bridge", bridge::masquerade),
            ("macvlan has an address that the outside routes to", parent::macvlan),
            ("macvlan in mode private joins nobody", parent::macvlan_private),
            ("ipvlan works or names the kernel option that it needs", parent::ipvlan),
            (
                "a vlan parent is made if missing and removed after, or the kernel option is named",
                parent::vlan,
            ),
            ("an agent that starts beside all modes changes nothing", all::untouched),
        ],
    );
    tests.push(Test::new("the network bridge is as its flags say", one().agents(false), bridge::flags));
    tests.push(Test::new("an existing bridge is used as it is", one().agents(false), bridge::existing));
    tests.push(Test::new("forwarding is left alone if told so", one().agents(false), bridge::no_forwarding));
    tests.extend(Test::on_one(
        Lab::builder().hosts(2),
        [
            ("a bridge is of its host alone", mixed::local as fn(&Lab) -> Result<()>),
            ("an overlay sandbox joins a bridge and leaves it under traffic", mixed::joins_bridge),
            ("a bridge's sandbox joins the overlay", mixed::joins_overlay),
            ("bridges work while etcd is away", mixed::etcd_away),
        ],
    ));
    frame::run(tests)
}

/// Nothing but what was there before is left on the host.
fn as_before(host: &Host, was: &KernelState) -> Result<()> {
    // Forwarding stays on, since somebody else may need it by now, with what the kernel changes along with it, and closed to
    // strangers; so does the directory of named namespaces.
    const STAYS: [&str; 6] = [
        "forward",
        "/accept_redirects:",
        "IPv6 routes: + anycast",
        "nftables: + table inet ovnet {",
        "meta oifkind \"bridge\" accept",
        "meta nfproto ipv",
    ];
    host.wait_in_sync()?;
    let changes = was.changes(&host.kernel_state()?);
    const WHOLE: [&str; 3] = ["named namespaces: + /run/netns", "nftables: + \t}", "nftables: + }"];
    let stays = |line: &str| STAYS.iter().any(|part| line.contains(part)) || WHOLE.contains(&line);
    let left: Vec<&str> = changes.lines().filter(|line| !stays(line)).collect();
    ensure!(left.is_empty(), "{} is not as it was:\n{}", host.name, left.join("\n"));
    Ok(())
}
