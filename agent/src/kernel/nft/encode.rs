//! From a table to the transaction that puts it in place, in nft's own language (nft(8)).
//!
//! Not as JSON: nft before 1.0.8 takes no map from there whose values have two parts, although it lists them so.

use std::{collections::BTreeSet, net::IpAddr};

use super::{FAMILIES, MAPS, Place, VNI_AT, VNIS, family_word, map_name, map_types, number, vteps};
use crate::{
    model::IfName,
    plan::{
        ownership::TABLE,
        ruleset::{Action, Chain, Family, LinkMatch, Match, PortKey, PortMap, Table},
    },
};

/// The transaction that replaces our table by this one, or removes it.
///
/// # Errors
/// The table has what nft has no words for, or what we never write; the text says what.
pub(in crate::kernel) fn transaction(table: Option<&Table>) -> Result<String, String> {
    // Deleting what is not there is an error, adding what is there is none.
    let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    if let Some(table) = table {
        text += &format!("table inet {TABLE} {{\n");
        for (map, name) in MAPS.into_iter().filter(|(map, _)| maps(table).contains(map)) {
            text += &port_map(table, map, name);
        }
        text += &sets(table);
        for chain in &table.chains {
            text += &self::chain(chain)?;
        }
        text += "}\n";
    }
    Ok(text)
}

/// The maps that have something, or that a rule refers to.
fn maps(table: &Table) -> BTreeSet<PortMap> {
    let rules = table.chains.iter().flat_map(|chain| &chain.rules);
    let referred =
        rules.filter_map(|rule| if let Action::Redirect(map) = rule.action { Some(map) } else { None });
    let filled = table.ports.iter().filter(|(_, ports)| !ports.is_empty()).map(|(map, _)| *map);
    referred.chain(filled).collect()
}

fn port_map(table: &Table, map: PortMap, name: &str) -> String {
    let (key, value) = map_types(map);
    let mut text = format!("map {name} {{\ntype {} : {}\n", key.join(" . "), value.join(" . "));
    if let Some(ports) = table.ports.get(&map).filter(|ports| !ports.is_empty()) {
        // One a line: a complaint quotes the line.
        let ports: Vec<String> = ports.iter().map(|(key, to)| element(key, *to)).collect();
        text += &format!("elements = {{\n{} }}\n", ports.join(",\n"));
    }
    text + "}\n"
}

/// The sets that have something, or that a rule refers to.
fn sets(table: &Table) -> String {
    let refers = |to: &dyn Fn(&Match) -> bool| {
        table.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.matches).any(to)
    };
    let mut text = String::new();
    if !table.vnis.is_empty() || refers(&|part| *part == Match::OtherVni) {
        let (name, kind, _) = VNIS;
        text += &set(name, kind, table.vnis.iter().map(|vni| vni.get().to_string()));
    }
    for family in FAMILIES {
        let own = || table.vteps.iter().filter(|vtep| Family::of(**vtep) == family);
        let asks = |part: &Match| matches!(part, Match::FromVtep(it) | Match::ToVtep(it) if *it == family);
        if own().next().is_some() || refers(&asks) {
            let (name, kind) = vteps(family);
            text += &set(name, &format!("type {kind}"), own().map(ToString::to_string));
        }
    }
    text
}

fn set(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    let listed = match elements.is_empty() {
        true => String::new(),
        false => format!("elements = {{\n{} }}\n", elements.join(",\n")),
    };
    format!("set {name} {{\n{kind}\n{listed}}}\n")
}

fn element(key: &PortKey, to: (IpAddr, u16)) -> String {
    format!("{} : {} . {}", self::key(key), to.0, to.1)
}

fn key(key: &PortKey) -> String {
    let address = key.address.map(|address| format!("{address} . ")).unwrap_or_default();
    // By number: names need /etc/protocols, which small systems do not have.
    format!("{address}{} . {}", number(key.protocol), key.port)
}

fn chain(chain: &Chain) -> Result<String, String> {
    let place = Place::of(chain.hook);
    let mut text = format!("chain {} {{\n", place.name);
    if let Some(base) = place.base {
        text += &format!("type {} hook {} priority {}; policy accept\n", base.kind, base.hook, base.priority);
    }
    for rule in &chain.rules {
        for condition in &rule.matches {
            text += &self::condition(condition)?;
            text += " ";
        }
        text += &action(&rule.action)?;
        text += "\n";
    }
    Ok(text + "}\n")
}

fn condition(condition: &Match) -> Result<String, String> {
    Ok(match condition {
        Match::In(link) => format!("iifname {}", pattern(link)?),
        Match::Out(link) => format!("oifname {}", pattern(link)?),
        Match::Source(net) => format!("{} saddr {net}", family(net.addr())),
        Match::Destination(net) => format!("{} daddr {net}", family(net.addr())),
        Match::NotDestination(net) => format!("{} daddr != {net}", family(net.addr())),
        Match::DestinationLocal => "fib daddr type local".into(),
        Match::DestinationElsewhere => "fib daddr type unicast".into(),
        Match::FromBridge => "meta iifkind \"bridge\"".into(),
        Match::ToBridge => "meta oifkind \"bridge\"".into(),
        Match::Established => "ct state established,related".into(),
        Match::Invalid => "ct state invalid".into(),
        Match::Redirected => "ct status dnat".into(),
        Match::Family(family) => format!("meta nfproto {}", family_word(*family)),
        Match::FromVtep(family) => format!("{} saddr @{}", header(*family), vteps(*family).0),
        Match::ToVtep(family) => format!("{} daddr @{}", header(*family), vteps(*family).0),
        Match::OtherVni => format!("@th,{},{} != @{}", VNI_AT.0, VNI_AT.1, VNIS.0),
        Match::Port(protocol, port) => format!("{protocol} dport {port}"),
        Match::Other(text) => return Err(foreign(text)),
    })
}

/// A link's name as nft takes it: a star at the end stands for anything, with `\` before it for itself, and then every other
/// `\` is lost.
pub(in crate::kernel) fn pattern(link: &LinkMatch) -> Result<String, String> {
    let (op, name, open) = match link {
        LinkMatch::Is(name) => ("", name.as_str(), false),
        LinkMatch::StartsWith(name) => ("", name.as_str(), true),
        LinkMatch::IsNot(name) => ("!= ", name.as_str(), false),
        LinkMatch::StartsNotWith(name) => ("!= ", name.as_str(), true),
    };
    let (text, lost) = match name.strip_suffix('*') {
        _ if open => (format!("{name}*"), name.ends_with('\\')),
        Some(start) => (format!("{start}\\*"), name.contains('\\')),
        None => (name.into(), false),
    };
    if lost || text.contains('"') || text.len() > IfName::MAX {
        let which = if open { "links whose names start with" } else { "a link named" };
        return Err(format!("nft cannot express {which} {name}"));
    }
    Ok(format!("{op}\"{text}\""))
}

fn action(action: &Action) -> Result<String, String> {
    Ok(match action {
        Action::Accept => "accept".into(),
        Action::Drop => "drop".into(),
        Action::Masquerade => "masquerade".into(),
        Action::SourceNat(to) => format!("snat {} to {to}", family(*to)),
        Action::Redirect(map) => {
            let (family, address) = match map.family {
                Family::V4 => ("ip", "ip daddr . "),
                Family::V6 => ("ip6", "ip6 daddr . "),
            };
            let address = if map.addressed { address } else { "" };
            format!("dnat {family} to {address}meta l4proto . th dport map @{}", map_name(*map))
        }
        Action::Goto(hook) => format!("goto {}", Place::of(*hook).name),
        Action::Other(text) => return Err(foreign(text)),
    })
}

/// nft's word for a family's header.
const fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn foreign(text: &str) -> String {
    format!("this was read from a foreign rule and is never written: {text}")
}
