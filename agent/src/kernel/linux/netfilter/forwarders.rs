//! Who else has rules for what a host forwards: then it is for them to say what passes.

use std::{collections::BTreeSet, fs};

use netlink_packet_core::NLM_F_DUMP;

use super::{
    forward_accepts,
    wire::{
        self, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_USE, DROP, FORWARD, GET_CHAIN, HEADER,
        INET, big_u32, number,
    },
};
use crate::{
    kernel::{
        KernelError,
        linux::{
            netns::namespace::Namespace,
            refusal::Refusal,
            rtnl::{
                attributes::{Attributes, text, u8_at},
                socket::Rtnl,
            },
        },
    },
    plan::{ownership::TABLE, ruleset::Family, state::Netns},
};

/// Attribute of a chain's hook: its number; and that of what is routed through (NF_INET_FORWARD).
const HOOK_NUMBER: u16 = 1;
const FORWARDED: u32 = 2;
/// What iptables before nf_tables has, by family: the names of its tables, one a line.
const LEGACY: [(Family, &str); 2] = [
    (Family::V4, "/proc/thread-self/net/ip_tables_names"),
    (Family::V6, "/proc/thread-self/net/ip6_tables_names"),
];

/// The families for which another program has a rule, or a drop policy, at the forward hook.
pub(in crate::kernel::linux) fn read(
    namespace: &Namespace,
    netns: &Netns,
) -> Result<BTreeSet<Family>, KernelError> {
    let failed =
        |refusal: Refusal| refusal.into_error("look at the chains for forwarding in", netns.to_string());
    let chains = wire::settled(|| chains(namespace).map(Some)).map_err(failed)?.unwrap_or_default();
    let mut families: BTreeSet<Family> = chains.into_iter().flat_map(Chain::families).collect();
    for family in [Family::V4, Family::V6] {
        if forward_accepts::has_others(namespace, netns, family)? {
            families.insert(family);
        }
    }
    let legacy =
        namespace.run(|| LEGACY.map(|(family, file)| (family, fs::read_to_string(file)))).map_err(failed)?;
    let filters = |names: &str| names.lines().any(|name| name == FORWARD.table);
    let legacy = legacy.into_iter().filter(|(_, names)| names.as_deref().is_ok_and(filters));
    families.extend(legacy.map(|(family, _)| family));
    Ok(families)
}

/// A chain of somebody else's in nf_tables at that hook, of a table by this number of a family. That of iptables is not among
/// them: our accept rules are rules in it.
struct Chain(u8);

impl Chain {
    fn families(self) -> Vec<Family> {
        let all = [Family::V4, Family::V6];
        all.into_iter().filter(|family| self.0 == INET || self.0 == number(*family)).collect()
    }
}

fn chains(namespace: &Namespace) -> Result<Vec<Chain>, Refusal> {
    let mut socket = namespace.run(Rtnl::open_netfilter)??;
    let mut found = Vec::new();
    // Of all families.
    let about = wire::request(0, &[]);
    socket.ask(GET_CHAIN, NLM_F_DUMP, &about, &mut |body| found.extend(chain(body)))?;
    Ok(found)
}

fn chain(body: &[u8]) -> Option<Chain> {
    let (family, attributes) = (u8_at(body, 0)?, Attributes::after(body, HEADER));
    let name = |kind| attributes.find(kind).and_then(text);
    let (table, chain) = (name(CHAIN_TABLE)?, name(CHAIN_NAME)?);
    let is_ours = family == INET && table == TABLE;
    let is_forward = table == FORWARD.table && chain == FORWARD.chain;
    let is_of_iptables = [Family::V4, Family::V6].map(number).contains(&family) && is_forward;
    let number = |kind| attributes.find(kind).and_then(big_u32);
    let hook = Attributes::nested(attributes.find(CHAIN_HOOK)?).find(HOOK_NUMBER).and_then(big_u32)?;
    let says_something = number(CHAIN_POLICY) == Some(DROP) || number(CHAIN_USE) != Some(0);
    (hook == FORWARDED && says_something && !is_ours && !is_of_iptables).then_some(Chain(family))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _nothing = chain(&bytes).map(Chain::families);
        }
    }
}
