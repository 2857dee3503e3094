//! From nft's listing to a table. What we never write becomes `Other`, so that the table differs from any desired one.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{FAMILIES, HOOKS, MAPS, PROTOCOLS, Place, VNI_AT, VNIS, family_word, map_types, number, vteps};
use crate::{
    model::{IfName, Protocol, Vni},
    plan::ruleset::{Action, Chain, Family, Hook, LinkMatch, Match, PortKey, PortMap, Rule, Table},
};

/// What a map of ports has.
type Ports = BTreeMap<PortKey, (IpAddr, u16)>;

/// The table in the output of `nft -j list table inet ovnet`.
pub(in crate::kernel) fn table(listing: &str) -> Result<Table, String> {
    let listing: Value =
        serde_json::from_str(listing).map_err(|error| format!("its listing is not JSON: {error}"))?;
    let objects = listing["nftables"].as_array().ok_or("its listing has no list of objects")?;
    let mut table = Table::default();
    for object in objects {
        if !object["metainfo"].is_null() || !object["table"].is_null() {
            continue;
        }
        let rule = &object["rule"];
        let hook = rule["chain"].as_str().and_then(by_name);
        let chain = table.chains.iter_mut().find(|chain| Some(chain.hook) == hook);
        if let Some(chain) = chain.filter(|_| rule.is_object()) {
            chain.rules.push(read_rule(rule));
        } else if let Some(hook) = our_chain(&object["chain"]) {
            table.chains.push(Chain { hook, rules: Vec::new() });
        } else if let Some(vnis) = vnis(&object["set"]) {
            table.vnis = vnis;
        } else if let Some(vteps) = our_vteps(&object["set"]) {
            table.vteps.extend(vteps);
        } else if let Some((map, ports)) = port_map(&object["map"]) {
            // What is empty is not there.
            table.ports.extend((!ports.is_empty()).then_some((map, ports)));
        } else {
            // A chain, set, map … that somebody else put into our table.
            let stranger = Rule { matches: Vec::new(), action: Action::Other(object.to_string()) };
            table.chains.push(Chain { hook: Hook::Forward, rules: vec![stranger] });
        }
    }
    Ok(table)
}

/// The chain of ours with this name, if it has no hook.
fn regular(name: &str) -> Option<Hook> {
    by_name(name).filter(|hook| Place::of(*hook).base.is_none())
}

fn by_name(name: &str) -> Option<Hook> {
    HOOKS.into_iter().find(|hook| Place::of(*hook).name == name)
}

/// The hook of a chain that is exactly as we make it.
fn our_chain(chain: &Value) -> Option<Hook> {
    let is_ours = |hook: &Hook| {
        let place = Place::of(*hook);
        let is_placed = match place.base {
            Some(base) => {
                chain["hook"] == base.hook
                    && chain["type"] == base.kind
                    && chain["prio"] == base.priority
                    && chain["policy"] == "accept"
            }
            None => chain["hook"].is_null(),
        };
        chain["name"] == place.name && is_placed
    };
    HOOKS.into_iter().find(is_ours)
}

/// The elements of a set that is exactly as we make it.
fn elements<'a>(set: &'a Value, name: &str, kind: &str) -> Option<&'a [Value]> {
    let known = ["family", "name", "table", "type", "handle", "elem"];
    let plain = set.as_object()?.keys().all(|key| known.contains(&key.as_str()));
    // Newer nft lists a type of raw bits by where they are.
    let is_kind = set["type"] == kind || set["type"]["typeof"] == vni_bits();
    let is_ours = plain && set["name"] == name && is_kind;
    is_ours.then(|| set["elem"].as_array().map(Vec::as_slice).unwrap_or_default())
}

fn vnis(set: &Value) -> Option<BTreeSet<Vni>> {
    let (name, _, kind) = VNIS;
    let vni = |number: &Value| Vni::new(u32::try_from(number.as_u64()?).ok()?).ok();
    elements(set, name, kind)?.iter().map(vni).collect()
}

fn our_vteps(set: &Value) -> Option<Vec<IpAddr>> {
    let elements = FAMILIES.into_iter().find_map(|family| {
        let (name, kind) = vteps(family);
        elements(set, name, kind)
    })?;
    elements.iter().map(|address| address.as_str()?.parse().ok()).collect()
}

/// A map that is exactly as we make it.
fn port_map(map: &Value) -> Option<(PortMap, Ports)> {
    let known = ["family", "name", "table", "type", "handle", "map", "elem"];
    if map.as_object()?.keys().any(|key| !known.contains(&key.as_str())) {
        return None;
    }
    let (which, _) = MAPS.into_iter().find(|(_, name)| map["name"] == *name)?;
    let (key, value) = map_types(which);
    // Newer nft lists both types as lists.
    let values = map["map"] == value.join(" . ") || map["map"] == Value::from(value);
    if map["type"] != Value::from(key) || !values {
        return None;
    }
    let elements = map["elem"].as_array().map(Vec::as_slice).unwrap_or_default();
    Some((which, elements.iter().map(|element| port(element, which)).collect::<Option<_>>()?))
}

fn port(element: &Value, map: PortMap) -> Option<(PortKey, (IpAddr, u16))> {
    let [key, value] = element.as_array()?.as_slice() else { return None };
    let (key, value) = (key["concat"].as_array()?, value["concat"].as_array()?);
    let (address, key) = if map.addressed { key.split_first()? } else { (&Value::Null, &key[..]) };
    let address = address.as_str().map(str::parse).transpose().ok()?;
    let ([protocol, port], [to, to_port]) = (key, value.as_slice()) else { return None };
    let key = PortKey { address, protocol: self::protocol(protocol)?, port: number16(port)? };
    Some((key, (to.as_str()?.parse().ok()?, number16(to_port)?)))
}

/// By its name, or by its number where /etc/protocols does not have the name.
fn protocol(value: &Value) -> Option<Protocol> {
    PROTOCOLS.into_iter().find(|protocol| *value == protocol.as_str() || *value == number(*protocol))
}

fn number16(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|number| number.try_into().ok())
}

fn read_rule(rule: &Value) -> Rule {
    let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some((last, conditions)) = parts.split_last() else {
        return Rule { matches: Vec::new(), action: Action::Other(rule.to_string()) };
    };
    Rule { matches: conditions.iter().map(condition).collect(), action: action(last) }
}

fn condition(part: &Value) -> Match {
    known_condition(&part["match"]).unwrap_or_else(|| Match::Other(part.to_string()))
}

fn known_condition(part: &Value) -> Option<Match> {
    let (op, left, right) = (part["op"].as_str()?, &part["left"], &part["right"]);
    if left["meta"]["key"] == "nfproto" {
        let family = FAMILIES.into_iter().find(|family| right == family_word(*family));
        return family.filter(|_| op == "==").map(Match::Family);
    }
    if let Some(key) = left["meta"]["key"].as_str() {
        let is_bridge = op == "==" && right == "bridge";
        return match key {
            "iifname" => Some(Match::In(link(op, right.as_str()?)?)),
            "oifname" => Some(Match::Out(link(op, right.as_str()?)?)),
            "iifkind" => is_bridge.then_some(Match::FromBridge),
            "oifkind" => is_bridge.then_some(Match::ToBridge),
            _ => None,
        };
    }
    if left["fib"].is_object() {
        let local = op == "==" && *left == json!({ "fib": { "result": "type", "flags": ["daddr"] } });
        return match right.as_str()? {
            _ if !local => None,
            "local" => Some(Match::DestinationLocal),
            "unicast" => Some(Match::DestinationElsewhere),
            _ => None,
        };
    }
    if let Some(key) = left["ct"]["key"].as_str() {
        return match (key, op) {
            ("state", "in") if *right == json!(["established", "related"]) => Some(Match::Established),
            ("state", "in") if right == "invalid" => Some(Match::Invalid),
            ("status", "in") if right == "dnat" => Some(Match::Redirected),
            _ => None,
        };
    }
    if left["payload"]["field"] == "dport" && op == "==" {
        return Some(Match::Port(protocol(&left["payload"]["protocol"])?, number16(right)?));
    }
    if let Some(set) = right.as_str().and_then(|name| name.strip_prefix('@')) {
        return in_set(op, left, set);
    }
    let net = prefix(right)?;
    if left["payload"]["protocol"] != family(net.addr()) {
        return None;
    }
    match (left["payload"]["field"].as_str()?, op) {
        ("saddr", "==") => Some(Match::Source(net)),
        ("daddr", "==") => Some(Match::Destination(net)),
        ("daddr", "!=") => Some(Match::NotDestination(net)),
        _ => None,
    }
}

fn vni_bits() -> Value {
    let (offset, length) = VNI_AT;
    json!({ "payload": { "base": "th", "offset": offset, "len": length } })
}

/// A condition on an element of a set of ours.
fn in_set(op: &str, left: &Value, set: &str) -> Option<Match> {
    if set == VNIS.0 {
        return (op == "!=" && *left == vni_bits()).then_some(Match::OtherVni);
    }
    let family = FAMILIES.into_iter().find(|family| vteps(*family).0 == set)?;
    let protocol = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    match (left["payload"]["field"].as_str()?, op) {
        _ if left["payload"]["protocol"] != protocol => None,
        ("saddr", "==") => Some(Match::FromVtep(family)),
        ("daddr", "==") => Some(Match::ToVtep(family)),
        _ => None,
    }
}

/// The inverse of the encoder's patterns.
fn link(op: &str, pattern: &str) -> Option<LinkMatch> {
    let open = pattern.strip_suffix('*');
    let (name, open) = match open.map(|start| (start, start.strip_suffix('\\'))) {
        None => (pattern.to_owned(), false),
        Some((_, Some(start))) => (format!("{start}*"), false),
        Some((start, None)) => (start.to_owned(), true),
    };
    let name: IfName = name.parse().ok()?;
    match (op, open) {
        ("==", false) => Some(LinkMatch::Is(name)),
        ("==", true) => Some(LinkMatch::StartsWith(name)),
        ("!=", false) => Some(LinkMatch::IsNot(name)),
        ("!=", true) => Some(LinkMatch::StartsNotWith(name)),
        _ => None,
    }
}

fn prefix(value: &Value) -> Option<IpNet> {
    if let Some(text) = value.as_str() {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    }
    let (address, length) = (value["prefix"]["addr"].as_str()?, value["prefix"]["len"].as_u64()?);
    IpNet::new(address.parse().ok()?, u8::try_from(length).ok()?).ok()
}

fn action(part: &Value) -> Action {
    known_action(part).unwrap_or_else(|| Action::Other(part.to_string()))
}

fn known_action(part: &Value) -> Option<Action> {
    let (key, value) = part.as_object().filter(|object| object.len() == 1)?.iter().next()?;
    match (key.as_str(), value) {
        ("accept", Value::Null) => Some(Action::Accept),
        ("drop", Value::Null) => Some(Action::Drop),
        ("masquerade", Value::Null) => Some(Action::Masquerade),
        ("snat", Value::Object(to)) if to.len() == 2 => {
            let address: IpAddr = to.get("addr")?.as_str()?.parse().ok()?;
            (to.get("family")? == family(address)).then_some(Action::SourceNat(address))
        }
        ("dnat", Value::Object(to)) if to.len() == 2 => redirect(value),
        ("goto", to) => regular(to["target"].as_str()?).map(Action::Goto),
        _ => None,
    }
}

/// A destination that a map of ours has, by exactly the key that it is made for.
fn redirect(to: &Value) -> Option<Action> {
    let map = &to["addr"]["map"];
    let (which, _) = MAPS.into_iter().find(|(_, name)| map["data"] == format!("@{name}"))?;
    let family = match which.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let address = json!({ "payload": { "protocol": family, "field": "daddr" } });
    let port = [
        json!({ "meta": { "key": "l4proto" } }),
        json!({ "payload": { "protocol": "th", "field": "dport" } }),
    ];
    let key: Vec<Value> = which.addressed.then_some(address).into_iter().chain(port).collect();
    (to["family"] == family && map["key"] == json!({ "concat": key })).then_some(Action::Redirect(which))
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}
