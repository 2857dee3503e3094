//! Our nftables table as nft's JSON (libnftables-json(5)), written and read; the reading is the inverse of the writing.

pub(super) mod decode;
pub(super) mod encode;

use crate::plan::ruleset::Hook;

/// Every hook, with name, type and priority of its chain.
pub(super) const CHAINS: [(Hook, &str, &str, i64); 3] = [
    (Hook::Forward, "forward", "filter", 0),
    (Hook::Postrouting, "postrouting", "nat", 100),
    (Hook::Prerouting, "prerouting", "nat", -100),
];

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        model::IfName,
        plan::ruleset::{Action, Chain, LinkMatch, Match, Rule, Table},
    };

    fn net() -> impl Strategy<Value = IpNet> {
        (any::<IpAddr>(), 0_u8..=32).prop_map(|(addr, len)| IpNet::new(addr, len).unwrap().trunc())
    }

    fn link() -> impl Strategy<Value = LinkMatch> {
        ("[a-z*-]{1,14}", 0..3).prop_map(|(name, kind)| {
            let name: IfName = name.parse().unwrap();
            match kind {
                0 => LinkMatch::Is(name),
                1 => LinkMatch::StartsWith(name),
                _ => LinkMatch::StartsNotWith(name),
            }
        })
    }

    fn condition() -> impl Strategy<Value = Match> {
        prop_oneof![
            link().prop_map(Match::In),
            link().prop_map(Match::Out),
            net().prop_map(Match::Source),
            net().prop_map(Match::Destination),
            net().prop_map(Match::NotDestination),
        ]
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let action = prop_oneof![
            Just(Action::Accept),
            Just(Action::Drop),
            Just(Action::Masquerade),
            any::<IpAddr>().prop_map(Action::SourceNat),
        ];
        (proptest::collection::vec(condition(), 0..4), action)
            .prop_map(|(matches, action)| Rule { matches, action })
    }

    fn table() -> impl Strategy<Value = Table> {
        let hooks = Just(CHAINS.map(|(hook, ..)| hook).to_vec());
        let chosen = proptest::sample::subsequence(CHAINS.map(|(hook, ..)| hook).to_vec(), 0..=3);
        (hooks, chosen).prop_flat_map(|(_, hooks)| {
            let rules = proptest::collection::vec(proptest::collection::vec(rule(), 0..4), hooks.len());
            rules.prop_map(move |rules| {
                let chains = hooks.iter().zip(rules).map(|(hook, rules)| Chain { hook: *hook, rules });
                Table { ports: std::collections::BTreeMap::new(), chains: chains.collect() }
            })
        })
    }

    /// What `nft -j list` would say after the transaction: the added objects, bare.
    fn listed(transaction: &Value) -> String {
        let objects = transaction["nftables"].as_array().unwrap().iter().skip(2);
        json!({ "nftables": objects.map(|object| object["add"].clone()).collect::<Vec<_>>() }).to_string()
    }

    proptest! {
        #[test]
        fn a_table_reads_back_as_it_was_written(table in table()) {
            let listing = listed(&encode::transaction(Some(&table)));
            prop_assert_eq!(decode::table(&listing).unwrap(), table);
        }
    }

    #[test]
    fn what_others_put_into_our_table_makes_it_another_one() {
        let chain = json!({"chain": {"family": "inet", "table": "ovnet", "name": "input", "type": "filter",
            "hook": "input", "prio": 0, "policy": "accept"}});
        let set = json!({"set": {"family": "inet", "name": "s", "table": "ovnet", "type": "ipv4_addr"}});
        for foreign in [chain, set] {
            let listing = json!({"nftables": [{"metainfo": {}}, {"table": {"name": "ovnet"}}, foreign]});
            assert_ne!(decode::table(&listing.to_string()).unwrap(), Table::default());
        }
        assert!(decode::table("{}").is_err());
    }
}
