//! The contract of the kernel room on the real kernel, in namespaces of its own, and what only the real one can show.

#![allow(clippy::expect_used, reason = "a test stops at what cannot be")]

mod devices;
mod firewall;
mod host;
mod objects;
mod parents;
mod sockets;
mod tables;
mod taken;

use ipnet::IpNet;
use libtest_mimic::{Arguments, Failed, Trial};
use ovagent::{
    kernel::{
        LinuxKernel,
        contract::{self, Stranger},
    },
    plan::{op::LinkRef, ruleset::Family, state::Netns},
};
use ovnet_integration::enter;

use self::objects::{NETNS_DIR, Outcome, sh};

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::from_args();
    enter::enter()?;
    let mut trials: Vec<Trial> = contract::CHECKS
        .into_iter()
        .map(|name| Trial::test(name, move || run(contract_check(name))))
        .collect();
    // By what the kernel says alone: nothing is remembered from one call to the next.
    trials.extend(tables::CHECKS.into_iter().map(|name| {
        let check = move || run(async move { contract::check(name, &tables::Forgetful, &Iproute).await });
        Trial::test(format!("{name}_by_a_kernel_that_remembers_nothing"), check)
    }));
    trials.extend([
        Trial::test("the_udp_socket_of_a_vxlan_device_stays_on_the_host", || run(devices::udp_socket())),
        Trial::test("the_options_of_links_are_the_tuned_ones", || run(devices::options())),
        Trial::test("ip_netns_sees_our_namespaces_and_we_see_its", || run(host::ip_netns())),
        Trial::test("a_file_left_without_a_namespace_is_replaced", || run(host::stale_file())),
        Trial::test("links_among_the_names_of_namespaces_are_none", || run(host::links_among_names())),
        Trial::test("an_attempt_that_died_half_way_is_taken_up", || run(devices::half_made())),
        Trial::test("a_bridge_keeps_its_mtu_whatever_its_ports_have", || run(devices::bridge_mtu())),
        Trial::test("facts_and_path_mtu_are_the_hosts", || run(host::facts())),
        Trial::test("a_namespace_is_known_by_its_inode_until_it_goes", || run(host::inodes())),
        Trial::test("a_missing_nft_is_told_with_its_package", || run(host::missing_nft())),
        Trial::test("changes_of_links_and_namespaces_give_hints", || run(host::hints())),
        Trial::test("changes_of_rules_that_concern_us_give_hints", || run(host::rule_hints())),
        Trial::test("a_process_s_namespace_is_worked_in_by_its_path", || run(host::adopted())),
        Trial::test("a_vni_that_somebody_uses_is_told", || run(taken::vni_in_use())),
        Trial::test("a_taken_udp_port_is_told_with_its_holder", || run(taken::port_in_use())),
        Trial::test("a_resolver_answers_in_its_namespace_alone", || run(sockets::resolver())),
        Trial::test("sockets_in_bad_places_are_refused_in_words", || run(sockets::bad_places())),
        Trial::test("what_nft_need_not_read_is_not_read_by_nft", || run(tables::read())),
        Trial::test("others_forward_chains_are_opened_and_closed", || run(firewall::forward_accepts())),
        Trial::test("damage_to_openings_is_seen_and_mended", || run(firewall::damage())),
        Trial::test("packets_pass_a_policy_of_drop_by_an_opening", || run(firewall::packets())),
        Trial::test("openings_are_seen_quickly_beside_a_huge_ruleset", || run(firewall::huge())),
        Trial::test("macvlan_links_reach_each_other_and_the_outside", || run(parents::reach())),
        Trial::test("a_parent_that_cannot_be_had_is_told_in_words", || run(parents::refusals())),
        Trial::test("isolated_ports_do_not_reach_each_other", || run(parents::isolated())),
        Trial::test("an_ipv6_address_is_usable_at_once", || run(devices::no_delay())),
        Trial::test("an_endpoint_is_made_quickly", || run(devices::pair_rate())),
        Trial::test("many_links_go_at_the_price_of_one", || run(devices::many_removals())),
        Trial::test("ten_thousand_rows_are_quick", || run(devices::rates())),
    ]);
    // One after the other: they share the host's namespace.
    let one_by_one = Arguments { test_threads: Some(1), ..arguments };
    libtest_mimic::run(&one_by_one, trials).exit()
}

fn run(test: impl Future<Output = Outcome>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(test)?;
    let left = sh("ip -br link; ls /run/netns")?;
    if left.contains("ov") { Err(format!("left behind: {left}").into()) } else { Ok(()) }
}

async fn contract_check(name: &'static str) -> Outcome {
    contract::check(name, &LinuxKernel::new(NETNS_DIR), &Iproute).await
}

/// Somebody with iproute2.
struct Iproute;

impl Stranger for Iproute {
    fn add_link(&self, at: &LinkRef) -> Outcome {
        assert_eq!(at.netns, Netns::Host);
        sh(&format!("ip link add {} type bridge", at.name)).map(drop)
    }

    fn remove_link(&self, at: &LinkRef) -> Outcome {
        sh(&format!("ip link del {}", at.name)).map(drop)
    }

    fn close(&self, family: Family) -> Outcome {
        sh(&format!("{} -P FORWARD DROP", iptables(family))).map(drop)
    }

    fn open(&self, family: Family) -> Outcome {
        let table = if family == Family::V4 { "ip filter" } else { "ip6 filter" };
        sh(&format!("nft delete table {table}")).map(drop)
    }

    fn add_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Outcome {
        sh(&format!("ip route add {to} dev {} metric {metric}", at.name)).map(drop)
    }

    fn has_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Result<bool, String> {
        let family = if to.addr().is_ipv4() { "-4" } else { "-6" };
        let routes = sh(&format!("ip {family} route show {to} dev {}", at.name))?;
        Ok(routes.contains(&format!("metric {metric}")))
    }
}

fn iptables(family: Family) -> &'static str {
    if family == Family::V4 { "iptables" } else { "ip6tables" }
}
