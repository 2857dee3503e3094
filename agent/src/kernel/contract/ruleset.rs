//! Tables to want.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::parts::{BRIDGE, Built, INNER_LEG, net, text};
use crate::{
    model::{IfName, Protocol, Vni},
    plan::ruleset::{Action, Chain, Family, Hook, LinkMatch, Match, PortKey, PortMap, Rule, Table},
};

/// A table with something of everything.
pub(super) fn table() -> Built<Table> {
    let rule = |matches, action| Rule { matches, action };
    let starred: IfName = "a*".parse().map_err(|error: crate::model::Invalid| error.to_string())?;
    let prefix = IfName::literal("ovh-");
    let forward = vec![
        rule(
            vec![
                Match::In(LinkMatch::StartsWith(prefix)),
                Match::Out(LinkMatch::StartsNotWith(prefix)),
                Match::Source(net("10.77.0.0/24")?),
                Match::NotDestination(net("10.77.0.0/24")?),
            ],
            Action::Accept,
        ),
        rule(vec![Match::In(LinkMatch::Is(starred)), Match::Destination(net("fd77::/64")?)], Action::Drop),
        rule(
            vec![Match::Source(net("0.0.0.0/0")?), Match::Destination(net("10.77.0.2/32")?)],
            Action::Accept,
        ),
    ];
    let postrouting = vec![
        rule(
            vec![Match::Source(net("10.77.0.0/24")?), Match::Out(LinkMatch::Is(INNER_LEG))],
            Action::Masquerade,
        ),
        rule(
            vec![Match::Out(LinkMatch::Is(BRIDGE)), Match::NotDestination(net("10.77.0.9/32")?)],
            Action::SourceNat(Ipv4Addr::new(10, 77, 0, 9).into()),
        ),
        rule(
            vec![Match::Out(LinkMatch::Is(BRIDGE))],
            Action::SourceNat(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 9).into()),
        ),
    ];
    let chains = vec![
        Chain {
            hook: Hook::Raw,
            rules: vec![rule(vec![Match::Port(Protocol::Udp, 4789)], Action::Goto(Hook::Tunnel))],
        },
        Chain { hook: Hook::Forward, rules: forward },
        Chain { hook: Hook::Postrouting, rules: postrouting },
    ];
    let (redirects, guard) = (redirects()?, guard()?);
    let chains = guard.chains.into_iter().chain(chains).chain(redirects.chains).collect();
    Ok(Table { ports: redirects.ports, chains, ..guard })
}

/// Chains without a hook, and the sets that their rules ask, one of them empty.
fn guard() -> Built<Table> {
    let rule = |matches, action| Rule { matches, action };
    let sandboxes = vec![
        rule(vec![Match::ToVtep(Family::V4)], Action::Drop),
        rule(vec![Match::ToVtep(Family::V6)], Action::Drop),
        rule(vec![Match::Family(Family::V6), Match::In(LinkMatch::IsNot(BRIDGE))], Action::Drop),
    ];
    let link = LinkMatch::StartsWith(IfName::literal("ovh-"));
    let agent = vec![rule(vec![Match::In(link)], Action::Goto(Hook::Sandboxes))];
    let tunnel = vec![
        rule(vec![Match::OtherVni], Action::Accept),
        rule(vec![Match::FromVtep(Family::V4), Match::Destination(net("10.77.0.1/32")?)], Action::Accept),
        rule(vec![Match::Invalid], Action::Accept),
        rule(vec![], Action::Drop),
    ];
    let chains = [(Hook::Sandboxes, sandboxes), (Hook::Agent, agent), (Hook::Tunnel, tunnel)];
    let vni = |number| Vni::new(number).map_err(|error| error.to_string());
    Ok(Table {
        vnis: [vni(1)?, vni(900)?, vni(Vni::MAX)?].into(),
        vteps: ["10.77.0.1", "10.77.0.2"]
            .map(|address| address.parse::<IpAddr>().map_err(text))
            .into_iter()
            .collect::<Result<_, _>>()?,
        chains: chains.into_iter().map(|(hook, rules)| Chain { hook, rules }).collect(),
        ..Table::default()
    })
}

/// Maps of ports of all kinds, one of them empty, and the rules that use them.
fn redirects() -> Built<Table> {
    let rule = |matches, action| Rule { matches, action };
    let map = |family, addressed| PortMap { family, addressed };
    let ip = |address: &str| address.parse::<IpAddr>().map_err(text);
    let to4 = (ip("10.77.0.2")?, 80);
    let to6 = (ip("fd77::2")?, 443);
    let key = |address, protocol, port| PortKey { address, protocol, port };
    let ports = [
        (
            map(Family::V4, false),
            [
                (key(None, Protocol::Tcp, 8080), to4),
                (key(None, Protocol::Udp, 8080), to4),
                (key(None, Protocol::Sctp, 1), to4),
            ]
            .into(),
        ),
        (map(Family::V6, false), [(key(None, Protocol::Tcp, 65_535), to6)].into()),
        (map(Family::V6, true), [(key(Some(ip("2001:db8::1")?), Protocol::Udp, 53), to6)].into()),
    ];
    let local = || vec![Match::DestinationLocal];
    let redirect = |family, addressed| Action::Redirect(map(family, addressed));
    let prerouting = vec![
        rule(local(), redirect(Family::V4, true)),
        rule(local(), redirect(Family::V6, true)),
        rule(local(), redirect(Family::V4, false)),
        rule(vec![Match::In(LinkMatch::Is(INNER_LEG))], redirect(Family::V6, false)),
    ];
    let names = vec![Match::Destination(net("10.77.0.2/32")?), Match::Port(Protocol::Udp, 53)];
    let output = vec![
        rule(names, Action::Accept),
        rule(vec![Match::Port(Protocol::Sctp, 9)], Action::Accept),
        rule(vec![Match::Redirected, Match::Established], Action::Accept),
    ];
    let chains = vec![
        Chain { hook: Hook::Prerouting, rules: prerouting },
        Chain { hook: Hook::Output, rules: output },
    ];
    Ok(Table { ports: ports.into(), chains, ..Table::default() })
}
