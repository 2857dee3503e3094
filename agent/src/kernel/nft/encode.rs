//! From a table to the transaction that puts it in place.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::CHAINS;
use crate::plan::{
    ownership::TABLE,
    ruleset::{Action, Chain, Family, Hook, LinkMatch, Match, PortMap, Rule, Table},
};

/// The transaction that replaces our table by this one, or removes it.
pub(in crate::kernel) fn transaction(table: Option<&Table>) -> Value {
    let bare = json!({ "table": { "family": "inet", "name": TABLE } });
    // Deleting what is not there is an error, adding what is there is none.
    let mut commands = vec![json!({ "add": bare }), json!({ "delete": bare })];
    if let Some(table) = table {
        commands.push(json!({ "add": bare }));
        for chain in &table.chains {
            commands.extend(add_chain(chain));
        }
    }
    json!({ "nftables": commands })
}

fn add_chain(chain: &Chain) -> Vec<Value> {
    let (_, name, kind, priority) = CHAINS.into_iter().find(|(hook, ..)| *hook == chain.hook).unwrap_or((
        Hook::Forward,
        "forward",
        "filter",
        0,
    ));
    let base = json!({ "family": "inet", "table": TABLE, "name": name, "type": kind, "hook": name, "prio": priority,
        "policy": "accept" });
    let rule = |rule: &Rule| {
        let parts: Vec<Value> = rule.matches.iter().map(condition).chain([action(&rule.action)]).collect();
        json!({ "add": { "rule": { "family": "inet", "table": TABLE, "chain": name, "expr": parts } } })
    };
    std::iter::once(json!({ "add": { "chain": base } })).chain(chain.rules.iter().map(rule)).collect()
}

fn condition(condition: &Match) -> Value {
    match condition {
        Match::In(link) => by_link("iifname", link),
        Match::Out(link) => by_link("oifname", link),
        Match::Source(net) => by_address("saddr", "==", *net),
        Match::Destination(net) => by_address("daddr", "==", *net),
        Match::NotDestination(net) => by_address("daddr", "!=", *net),
        Match::DestinationLocal => {
            json!({ "match": { "op": "==", "left": { "fib": { "result": "type", "flags": ["daddr"] } }, "right": "local" } })
        }
        Match::Established => {
            json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": ["established", "related"] } })
        }
        Match::Redirected => {
            json!({ "match": { "op": "in", "left": { "ct": { "key": "status" } }, "right": "dnat" } })
        }
        Match::Port(protocol, port) => {
            let left = json!({ "payload": { "protocol": protocol.as_str(), "field": "dport" } });
            json!({ "match": { "op": "==", "left": left, "right": port } })
        }
        Match::Other(text) => foreign(text),
    }
}

fn by_link(key: &str, link: &LinkMatch) -> Value {
    let (op, pattern) = match link {
        LinkMatch::Is(name) => ("==", escaped(name.as_str())),
        LinkMatch::StartsWith(name) => ("==", escaped(name.as_str()) + "*"),
        LinkMatch::StartsNotWith(name) => ("!=", escaped(name.as_str()) + "*"),
    };
    json!({ "match": { "op": op, "left": { "meta": { "key": key } }, "right": pattern } })
}

/// A star that is part of the name, not of the pattern.
fn escaped(name: &str) -> String {
    name.replace('*', "\\*")
}

fn by_address(field: &str, op: &str, net: IpNet) -> Value {
    let whole = net.prefix_len() == net.max_prefix_len();
    let right = if whole {
        json!(net.addr().to_string())
    } else {
        json!({ "prefix": { "addr": net.addr().to_string(), "len": net.prefix_len() } })
    };
    let left = json!({ "payload": { "protocol": family(net.addr()), "field": field } });
    json!({ "match": { "op": op, "left": left, "right": right } })
}

fn action(action: &Action) -> Value {
    match action {
        Action::Accept => json!({ "accept": null }),
        Action::Drop => json!({ "drop": null }),
        Action::Masquerade => json!({ "masquerade": null }),
        Action::SourceNat(to) => json!({ "snat": { "family": family(*to), "addr": to.to_string() } }),
        Action::DestinationNat(to, port) => {
            json!({ "dnat": { "family": family(*to), "addr": to.to_string(), "port": port } })
        }
        Action::Redirect(map) => redirect(*map),
        Action::Other(text) => foreign(text),
    }
}

fn redirect(map: PortMap) -> Value {
    let (family, name) = match (map.family, map.addressed) {
        (Family::V4, false) => ("ip", "@ports4"),
        (Family::V4, true) => ("ip", "@addressed4"),
        (Family::V6, false) => ("ip6", "@ports6"),
        (Family::V6, true) => ("ip6", "@addressed6"),
    };
    let address = map.addressed.then(|| json!({ "payload": { "protocol": family, "field": "daddr" } }));
    let port = [
        json!({ "meta": { "key": "l4proto" } }),
        json!({ "payload": { "protocol": "th", "field": "dport" } }),
    ];
    let key: Vec<Value> = address.into_iter().chain(port).collect();
    json!({ "dnat": { "family": family, "addr": { "map": { "key": { "concat": key }, "data": name } } } })
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

/// What was seen and not understood goes back as it was.
fn foreign(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_not_json| json!(text))
}
