//! What every kernel must do: checks that run on the one in memory and on the real one.
//!
//! Each check makes what it needs under names that start with "ovk", compares, and leaves nothing behind.

mod build;
mod forward_accepts;
mod objects;
mod parents;
mod parts;
mod refusals;
mod rows;
mod ruleset;
mod tables;

use std::collections::BTreeSet;

use ipnet::IpNet;

pub use self::build::{look_at, steps};
use super::{ApplyError, Kernel};
use crate::{
    model::chain,
    plan::{
        op::{LinkOp, LinkRef, NetnsOp, Op, SettingOp},
        ruleset::Family,
        state::{Netns, State},
    },
};

/// Somebody else on the host, who makes objects without our marks.
pub trait Stranger: Sync {
    /// Make a link that is no veth and no vxlan device.
    ///
    /// # Errors
    /// It could not be made.
    fn add_link(&self, at: &LinkRef) -> Result<(), String>;
    /// Remove such a link.
    ///
    /// # Errors
    /// It could not be removed.
    fn remove_link(&self, at: &LinkRef) -> Result<(), String>;
    /// Have an iptables FORWARD chain of this family in the host's namespace that drops what meets no rule.
    ///
    /// # Errors
    /// It could not be made.
    fn close(&self, family: Family) -> Result<(), String>;
    /// Remove that chain.
    ///
    /// # Errors
    /// It could not be removed.
    fn open(&self, family: Family) -> Result<(), String>;
    /// Make a route by way of a link that is up.
    ///
    /// # Errors
    /// It could not be made.
    fn add_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Result<(), String>;
    /// Whether that route is there.
    ///
    /// # Errors
    /// It cannot be told.
    fn has_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Result<bool, String>;
}

/// Names of the checks.
pub const CHECKS: [&str; 17] = [
    "what_was_applied_is_what_is_seen",
    "applying_again_changes_nothing",
    "random_states_are_seen_as_applied",
    "objects_change_as_told",
    "a_bridge_has_a_row_of_its_own",
    "ports_change_alone_or_not_at_all",
    "a_look_sees_what_it_names_alone",
    "removing_what_is_gone_succeeds",
    "foreign_links_survive",
    "foreign_routes_survive",
    "a_taken_name_is_an_error",
    "failures_name_their_steps_and_what_depends_on_them_is_left_out",
    "sysctls_that_the_kernel_lacks_are_told",
    "forward_accepts_are_there_where_others_drop",
    "links_on_a_link_of_the_host_are_seen_as_made",
    "a_namespace_that_goes_frees_its_vni",
    "ten_thousand_rows_are_seen_as_applied",
];

/// Run one of [`CHECKS`].
///
/// # Errors
/// What is not as it must be.
pub async fn check<K: Kernel>(name: &str, kernel: &K, stranger: &impl Stranger) -> Result<(), String> {
    match name {
        "what_was_applied_is_what_is_seen" => objects::seen_as_applied(kernel).await,
        "applying_again_changes_nothing" => objects::again(kernel).await,
        "random_states_are_seen_as_applied" => objects::random(kernel).await,
        "objects_change_as_told" => objects::changes(kernel).await,
        "a_bridge_has_a_row_of_its_own" => objects::own_row(kernel).await,
        "ports_change_alone_or_not_at_all" => tables::ports(kernel).await,
        "a_look_sees_what_it_names_alone" => objects::narrow_look(kernel).await,
        "removing_what_is_gone_succeeds" => refusals::absent(kernel).await,
        "foreign_links_survive" => refusals::foreign_links(kernel, stranger).await,
        "foreign_routes_survive" => refusals::foreign_routes(kernel, stranger).await,
        "a_taken_name_is_an_error" => refusals::taken(kernel, stranger).await,
        "failures_name_their_steps_and_what_depends_on_them_is_left_out" => {
            refusals::dependents(kernel).await
        }
        "sysctls_that_the_kernel_lacks_are_told" => refusals::sysctls(kernel).await,
        "forward_accepts_are_there_where_others_drop" => forward_accepts::kept(kernel, stranger).await,
        "links_on_a_link_of_the_host_are_seen_as_made" => parents::kept(kernel, stranger).await,
        "a_namespace_that_goes_frees_its_vni" => rows::vni(kernel).await,
        "ten_thousand_rows_are_seen_as_applied" => rows::ten_thousand(kernel).await,
        _ => Err(format!("there is no check named {name}")),
    }
}

/// The steps that failed, with their reasons, as text.
fn told(error: &ApplyError) -> String {
    error.failures.iter().map(|(op, error)| format!("\n  {op}: {}", chain(error))).collect()
}

async fn apply<K: Kernel>(kernel: &K, ops: Vec<Op>) -> Result<(), String> {
    kernel.apply(ops).await.map_err(|error| told(&error))
}

/// The failures of steps that must not all succeed.
async fn refused<K: Kernel>(kernel: &K, ops: Vec<Op>) -> Result<ApplyError, String> {
    let text = ops.iter().map(|op| format!("\n  {op}")).collect::<String>();
    kernel.apply(ops).await.err().ok_or_else(|| format!("these steps should not all have succeeded:{text}"))
}

/// Look at all that `desired` has, and compare.
async fn expect<K: Kernel>(kernel: &K, desired: &State) -> Result<(), String> {
    let observed = kernel.observe(look_at(desired)).await.map_err(|error| chain(&error))?;
    if observed == *desired {
        return Ok(());
    }
    let differs = |netns: &&Netns| observed.netns.get(*netns) != desired.netns.get(*netns);
    let mut text = String::from("seen is not what was wanted:");
    for netns in desired.netns.keys().filter(differs) {
        let (observed, desired) = (observed.netns.get(netns), &desired.netns[netns]);
        let Some(observed) = observed else {
            text += &format!("\n{netns} is not there");
            continue;
        };
        let names: BTreeSet<_> = desired.links.keys().chain(observed.links.keys()).collect();
        for name in names.into_iter().filter(|name| observed.links.get(name) != desired.links.get(name)) {
            text += &format!(
                "\n{netns}/{name}\n  wanted {:?}\n  seen   {:?}",
                desired.links.get(name),
                observed.links.get(name)
            );
        }
        let rest = |state: &crate::plan::state::NetnsState| {
            format!("{:?} {:?} {:?} {:?}", state.mark, state.sysctls, state.table, state.resolver)
        };
        text += &format!("\n{netns}\n  wanted {}\n  seen   {}", rest(desired), rest(observed));
    }
    Err(text)
}

/// Run a check, then remove what it made, whatever its outcome.
async fn cleared<K: Kernel>(
    kernel: &K,
    check: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let outcome = check.await;
    let host = LinkRef { netns: Netns::Host, name: build::LEG };
    let mut ops = vec![Op::Setting(Netns::Host, SettingOp::RemoveTable)];
    ops.extend(
        build::NETNS
            .iter()
            .filter_map(|name| name.parse().ok())
            .map(Netns::Named)
            .map(|netns| Op::Netns(netns, NetnsOp::Remove)),
    );
    ops.push(Op::Link(host, LinkOp::Remove));
    let clearing = apply(kernel, ops).await;
    outcome.and(clearing)
}
