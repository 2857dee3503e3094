//! Real hosts: the package under systemd on Debian's kernel, in virtual machines. `make test-vm` runs it.
//!
//! Three machines are booted once, and the tests go over them in this order; any can be run alone by its name. Each leaves
//! no network, no sandbox and nothing in the way of others.

mod environment;
mod fixture;
mod lan;
mod outages;
mod package;
mod readme;
mod underlay;
mod unit;

use std::sync::Arc;

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Trial};
use ovnet_integration::{
    enter::{self, Disk},
    vm::{Image, Package},
};

use crate::fixture::Fixture;

type Body = fn(&Fixture) -> Result<()>;

/// Those of [`readme`] and [`package::purged`] install and remove the package themselves, the others have three hosts with
/// agent and etcd.
const TESTS: &[(&str, Body)] = &[
    ("the README's first network on two real hosts works word for word", readme::word_for_word),
    ("the unit is ready, fenced, and says nothing that worries", unit::ready_and_fenced),
    ("a network made on one host is used from all", unit::used_from_all),
    ("an agent that is killed comes back, and traffic runs on", unit::killed),
    ("networkd leaves links of ours alone, and takes nothing from them", underlay::networkd),
    ("Debian's iptables rules and ours live side by side", underlay::iptables),
    ("an ipvlan network's addresses are reached from another host", lan::ipvlan_l2),
    ("an ipvlan network that routes is reached by a route", lan::ipvlan_l3),
    ("a VLAN is made for a network and removed after it", lan::vlan),
    ("a dummy link carries sandboxes", lan::dummy),
    ("a published port of SCTP answers another host", lan::sctp),
    ("networks follow an underlay with MTU 9000 and one with 1400", underlay::mtu),
    ("at 20 ms and 5 % loss hosts join, attach, and only the dead are dead", underlay::bad_link),
    ("a reboot brings all back before what is ordered after the agent", outages::reboot),
    ("a host without power goes and comes back", outages::power),
    ("the package goes up and down under traffic without a lost packet", package::up_and_down),
    ("what the administrator wrote survives an upgrade", package::conffile),
    ("without the kernel's module an error names it", environment::no_module),
    ("without nf_tables an error names it, too", environment::no_nf_tables),
    ("a full disk is named, and nothing is lost by it", environment::full_disk),
    ("a clock that is off by an hour does not matter", environment::clock),
    ("a store that answers slowly is waited for", environment::slow_store),
    ("two hosts of one name are told", environment::namesake),
    ("two hosts of one identity are told", environment::clone),
    ("a firewall in the way is told", environment::firewalls),
    ("purge leaves nothing", package::purged),
];

fn main() -> Result<()> {
    if enter::is_outside() {
        Package::find()?;
        Image::prepare().context("build the image")?;
    }
    enter::enter_with(Disk::Yes)?;
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let fixture = Arc::new(Fixture::default());
    let trials = TESTS.iter().map(|(name, body)| {
        let fixture = Arc::clone(&fixture);
        Trial::test(*name, move || fixture.run(*body).map_err(Into::into))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit()
}
