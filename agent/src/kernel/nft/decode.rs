//! From nft's listing to a table. What we never write becomes `Other`, so that the table differs from any wanted one.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::CHAINS;
use crate::{
    model::IfName,
    plan::ruleset::{Action, Chain, Hook, LinkMatch, Match, Rule, Table},
};

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
        } else if let Some(hook) = base_chain(&object["chain"]) {
            table.chains.push(Chain { hook, rules: Vec::new() });
        } else {
            // A chain, set, map … that somebody else put into our table.
            let stranger = Rule { matches: Vec::new(), action: Action::Other(object.to_string()) };
            table.chains.push(Chain { hook: Hook::Forward, rules: vec![stranger] });
        }
    }
    Ok(table)
}

fn by_name(name: &str) -> Option<Hook> {
    CHAINS.into_iter().find(|(_, known, ..)| *known == name).map(|(hook, ..)| hook)
}

/// The hook of a chain that is exactly as we make it.
fn base_chain(chain: &Value) -> Option<Hook> {
    let is_ours = |(_, name, kind, priority): &(Hook, &str, &str, i64)| {
        chain["name"] == *name
            && chain["hook"] == *name
            && chain["type"] == *kind
            && chain["prio"] == *priority
            && chain["policy"] == "accept"
    };
    CHAINS.iter().find(|known| is_ours(known)).map(|(hook, ..)| *hook)
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
    if let Some(key) = left["meta"]["key"].as_str() {
        let link = link(op, right.as_str()?)?;
        return match key {
            "iifname" => Some(Match::In(link)),
            "oifname" => Some(Match::Out(link)),
            _ => None,
        };
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

fn link(op: &str, pattern: &str) -> Option<LinkMatch> {
    let open = pattern.strip_suffix('*').filter(|start| !start.ends_with('\\'));
    let name: IfName = open.unwrap_or(pattern).replace("\\*", "*").parse().ok()?;
    match (op, open) {
        ("==", None) => Some(LinkMatch::Is(name)),
        ("==", Some(_)) => Some(LinkMatch::StartsWith(name)),
        ("!=", Some(_)) => Some(LinkMatch::StartsNotWith(name)),
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
        _ => None,
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}
