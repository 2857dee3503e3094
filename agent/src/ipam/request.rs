//! Subnets as people ask for them: checked against each other before anything is made.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    kind::SubnetKind,
    span::{Span, bits, overlap},
};
use crate::model::{Invalid, Name, Network, Subnet};

/// The subnets requested with `network create`, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetRequest {
    /// `--subnet`, in CIDR form.
    pub subnets: Vec<String>,
    /// `--gateway`, each in one of the subnets.
    pub gateways: Vec<String>,
    /// `--ip-range`, in CIDR form, each in one of the subnets.
    pub ip_ranges: Vec<String>,
    /// `--aux-address`, by name, each in one of the subnets.
    pub aux: BTreeMap<String, String>,
}

/// Prefixes that no endpoint can have an address in, with the word for them.
const UNFIT: [(&str, &str); 8] = [
    ("0.0.0.0/8", "\"this network\" (0.0.0.0/8)"),
    ("127.0.0.0/8", "loopback (127.0.0.0/8)"),
    ("169.254.0.0/16", "link-local (169.254.0.0/16)"),
    ("224.0.0.0/3", "multicast or reserved (224.0.0.0/3)"),
    ("::/127", "unspecified and loopback (::/127)"),
    ("::ffff:0:0/96", "IPv4-mapped (::ffff:0:0/96)"),
    ("fe80::/10", "link-local (fe80::/10)"),
    ("ff00::/8", "multicast (ff00::/8)"),
];

/// The subnets of a request, in its order. None in, none out: the caller then picks one from the pools, see
/// [`automatic`].
///
/// # Errors
/// A text that is no CIDR or address; host bits set; no room for an endpoint; address space that endpoints cannot have;
/// subnets that overlap; a gateway where the kind has none; a gateway, range or auxiliary address outside all of them, twice
/// in one of them, or on an address that is not for hosts.
pub fn parse_subnets(request: &SubnetRequest, kind: SubnetKind) -> Result<Vec<Subnet>, Invalid> {
    if kind == SubnetKind::WithoutGateway
        && let Some(text) = request.gateways.first()
    {
        return Err(Invalid::new("gateway", text, "such a network has no gateway: do not give one"));
    }
    if request.subnets.is_empty() {
        return no_subnets(request);
    }
    if request.subnets.len() > Network::MAX_SUBNETS {
        let input = format!("{} of them", request.subnets.len());
        return Err(Invalid::new("subnet", input, format!("at most {} are allowed", Network::MAX_SUBNETS)));
    }
    let mut drafts: Vec<Draft> = Vec::with_capacity(request.subnets.len());
    for text in &request.subnets {
        let prefix = parse_prefix(text, kind)?;
        if let Some(other) = drafts.iter().find(|draft| overlap(draft.prefix, prefix)) {
            return Err(Invalid::new("subnet", text, format!("it overlaps {}, also given", other.prefix)));
        }
        drafts.push(Draft { prefix, gateway: None, ip_range: None, aux: BTreeMap::new() });
    }
    for text in &request.gateways {
        let (draft, address) = host_address(&mut drafts, "gateway", text)?;
        if let Some(other) = draft.gateway.replace(address) {
            let reason = format!("the subnet {} has the gateway {other} already", draft.prefix);
            return Err(Invalid::new("gateway", text, reason));
        }
    }
    for text in &request.ip_ranges {
        take_range(&mut drafts, text)?;
    }
    for (name, text) in &request.aux {
        take_aux(&mut drafts, name, text)?;
    }
    drafts.into_iter().map(|draft| draft.finish(kind)).collect()
}

/// The subnet of an automatic `prefix`: its first address is the gateway, if the kind has one. `None` if the
/// prefix is too small.
pub fn automatic(prefix: IpNet, kind: SubnetKind) -> Option<Subnet> {
    let gateway = kind.first_gateway(Span::usable(prefix)?);
    Some(Subnet { prefix, gateway, ip_range: None, aux_addresses: BTreeMap::new() })
}

/// A subnet while it is read.
struct Draft {
    prefix: IpNet,
    gateway: Option<IpAddr>,
    ip_range: Option<IpNet>,
    aux: BTreeMap<String, IpAddr>,
}

impl Draft {
    fn finish(self, kind: SubnetKind) -> Result<Subnet, Invalid> {
        let no_room = || Invalid::new("subnet", self.prefix.to_string(), "it is too small for endpoints");
        let usable = Span::usable(self.prefix).ok_or_else(no_room)?;
        let gateway = self.gateway.or_else(|| kind.first_gateway(usable));
        if let Some((name, address)) = self.aux.iter().find(|(_, address)| Some(**address) == gateway) {
            let reason =
                format!("it is the gateway of {}; choose a different one with --gateway", self.prefix);
            return Err(Invalid::new("auxiliary address", format!("{name}={address}"), reason));
        }
        let subnet =
            Subnet { prefix: self.prefix, gateway, ip_range: self.ip_range, aux_addresses: self.aux };
        if !has_room(&subnet, usable) {
            let what = if subnet.ip_range.is_some() { "address range" } else { "subnet" };
            let input = subnet.ip_range.unwrap_or(subnet.prefix).to_string();
            let who = if gateway.is_some() { "gateway and auxiliary" } else { "auxiliary" };
            return Err(Invalid::new(what, input, format!("{who} addresses leave no address for endpoints")));
        }
        Ok(subnet)
    }
}

/// Whether an automatic address exists at all.
fn has_room(subnet: &Subnet, usable: Span) -> bool {
    let range = subnet.ip_range.map_or(Some(usable), |range| usable.intersection(Span::of(range)));
    range.is_some_and(|range| {
        let reserved = subnet.aux_addresses.values().chain(&subnet.gateway);
        let inside = reserved.filter(|address| range.contains(**address)).count();
        u128::try_from(inside).is_ok_and(|inside| range.count() > inside)
    })
}

fn no_subnets(request: &SubnetRequest) -> Result<Vec<Subnet>, Invalid> {
    let first = [
        ("gateway", request.gateways.first()),
        ("address range", request.ip_ranges.first()),
        ("auxiliary address", request.aux.values().next()),
    ];
    match first.into_iter().find_map(|(what, text)| Some((what, text?))) {
        Some((what, text)) => Err(Invalid::new(what, text, "it needs its subnet too: give it with --subnet")),
        None => Ok(Vec::new()),
    }
}

/// A CIDR text, host bits zero.
fn parse_cidr(what: &'static str, text: &str) -> Result<IpNet, Invalid> {
    let Ok(net) = text.parse::<IpNet>() else {
        let example = if text.contains(':') { "fd00::/64" } else { "10.0.0.0/24" };
        return Err(Invalid::new(what, text, format!("expected ADDRESS/LENGTH such as {example}")));
    };
    if net.trunc() != net {
        return Err(Invalid::new(what, text, format!("host bits are set; did you mean {}?", net.trunc())));
    }
    Ok(net)
}

/// The word for what endpoints cannot use, if a prefix overlaps it.
pub(super) fn unfit(prefix: IpNet) -> Option<&'static str> {
    let hit = |(net, _): &&(&str, &str)| net.parse().is_ok_and(|net| overlap(net, prefix));
    UNFIT.iter().find(hit).map(|(_, word)| *word)
}

fn parse_prefix(text: &str, kind: SubnetKind) -> Result<IpNet, Invalid> {
    let prefix = parse_cidr("subnet", text)?;
    let wrong = |reason: String| Err(Invalid::new("subnet", text, reason));
    let longest = prefix.max_prefix_len() - kind.least_host_bits();
    if prefix.prefix_len() > longest {
        return wrong(format!("it is too small for {}: /{longest} is the smallest", kind.members()));
    }
    if let Some(word) = unfit(prefix) {
        return wrong(format!("it overlaps {word}, which endpoints cannot use"));
    }
    Ok(prefix)
}

/// The subnet that an address text falls into, with the address, which a host can have.
fn host_address<'a>(
    drafts: &'a mut [Draft],
    what: &'static str,
    text: &str,
) -> Result<(&'a mut Draft, IpAddr), Invalid> {
    let wrong = |reason: String| Invalid::new(what, text, reason);
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(wrong(match text.parse::<IpNet>() {
            Ok(net) => format!("expected an address without length; did you mean {}?", net.addr()),
            Err(_malformed) => "expected an IPv4 or IPv6 address".into(),
        }));
    };
    let all = listed(drafts);
    let Some(draft) = drafts.iter_mut().find(|draft| draft.prefix.contains(&address)) else {
        return Err(wrong(format!("it lies in none of the subnets ({all})")));
    };
    refuse_special(what, text, draft.prefix, address)?;
    Ok((draft, address))
}

/// Refuses the network address and the broadcast address, where the prefix has them.
pub(super) fn refuse_special(
    what: &'static str,
    text: &str,
    prefix: IpNet,
    address: IpAddr,
) -> Result<(), Invalid> {
    let all = Span::of(prefix);
    if Span::usable(prefix) == Some(all) {
        return Ok(());
    }
    let kind = match bits(address) {
        first if first == all.first && all.v6 => "subnet-router anycast",
        first if first == all.first => "network",
        last if last == all.last && !all.v6 => "broadcast",
        _ => return Ok(()),
    };
    let between = Span::usable(prefix)
        .map(|usable| format!("; choose from {} to {}", usable.first_address(), usable.last_address()));
    let reason = format!("it is the {kind} address of {prefix}{}", between.unwrap_or_default());
    Err(Invalid::new(what, text, reason))
}

fn take_range(drafts: &mut [Draft], text: &str) -> Result<(), Invalid> {
    let range = parse_cidr("address range", text)?;
    let all = listed(drafts);
    let Some(draft) = drafts.iter_mut().find(|draft| draft.prefix.contains(&range)) else {
        let reason = format!("it lies in none of the subnets ({all})");
        return Err(Invalid::new("address range", text, reason));
    };
    if let Some(other) = draft.ip_range.replace(range) {
        let reason = format!("the subnet {} has the range {other} already", draft.prefix);
        return Err(Invalid::new("address range", text, reason));
    }
    Ok(())
}

fn take_aux(drafts: &mut [Draft], name: &str, text: &str) -> Result<(), Invalid> {
    const WHAT: &str = "auxiliary address";
    let quoted = || format!("{name}={text}");
    Name::parse("name of an auxiliary address", name)?;
    if name == "gateway" {
        return Err(Invalid::new(
            WHAT,
            quoted(),
            "the name gateway is taken; choose a gateway with --gateway",
        ));
    }
    let (draft, address) = host_address(drafts, WHAT, text)?;
    if let Some((other, _)) = draft.aux.iter().find(|(_, taken)| **taken == address) {
        return Err(Invalid::new(WHAT, quoted(), format!("{other} has the same address")));
    }
    if draft.aux.len() >= Subnet::MAX_AUX {
        return Err(Invalid::new(
            WHAT,
            quoted(),
            format!("at most {} in a subnet are allowed", Subnet::MAX_AUX),
        ));
    }
    draft.aux.insert(name.to_owned(), address);
    Ok(())
}

fn listed(drafts: &[Draft]) -> String {
    drafts.iter().map(|draft| draft.prefix.to_string()).collect::<Vec<_>>().join(", ")
}
