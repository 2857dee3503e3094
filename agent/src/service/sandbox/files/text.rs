//! What the files of a sandbox say: pure, from the intent and the host's resolv.conf.

use std::{collections::BTreeSet, fmt::Write, net::IpAddr};

use crate::{
    dns::{self, RESOLVER, ResolvConf, Server},
    intent::Intent,
    model::{DnsChoice, Endpoint, HostAddress, InHost, Name, NodeId, Sandbox},
};

/// What the first line of each file of ours begins with, but for the hostname, in which there are no comments.
pub(super) const MARK: &str = "# ovnet:";

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                         fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// What the files depend on besides the intent.
pub(super) struct Context<'a> {
    pub(super) me: NodeId,
    /// The agent's own choice, for sandboxes without one.
    pub(super) defaults: &'a DnsChoice,
    pub(super) host: &'a ResolvConf,
    /// What "host-gateway" stands for; none of a family: where the sandbox reaches its host.
    pub(super) host_gateways: &'a [IpAddr],
}

/// The files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) hosts: String,
    pub(super) resolv: String,
    pub(super) hostname: String,
}

impl Texts {
    /// Each by its name below /etc.
    pub(super) fn files(&self) -> [(&'static str, &str); 3] {
        [("hosts", &self.hosts), ("resolv.conf", &self.resolv), ("hostname", &self.hostname)]
    }
}

/// What the files of a sandbox say.
pub(super) fn texts(intent: &Intent, sandbox: &Sandbox, around: &Context<'_>) -> Texts {
    Texts {
        hosts: hosts(intent, sandbox, around),
        resolv: resolv(intent, sandbox, around),
        hostname: format!("{}\n", sandbox.hostname),
    }
}

fn first_line(sandbox: &Sandbox) -> String {
    format!("{MARK} of sandbox {}; changes to this file are lost", sandbox.name)
}

fn hosts(intent: &Intent, sandbox: &Sandbox, around: &Context<'_>) -> String {
    let own = endpoints(intent, around.me, &sandbox.name);
    let mut text = format!("{}\n{LOCALHOST}", first_line(sandbox));
    let mut line = |address: IpAddr, names: &[&str]| {
        let mut known = BTreeSet::new();
        let names: Vec<&str> = names.iter().copied().filter(|name| known.insert(*name)).collect();
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{address}\t{}", names.join(" "));
    };
    let full = format!("{}.{}", sandbox.hostname, sandbox.domain);
    for endpoint in &own {
        // The first name is the canonical one: what `hostname -f` says.
        let mut names = vec![sandbox.hostname.as_str(), endpoint.name.as_str()];
        if !sandbox.domain.is_empty() {
            names.insert(0, &full);
        }
        for address in &endpoint.addresses {
            line(address.addr(), &names);
        }
    }
    for endpoint in &own {
        let Some(view) = intent.network(endpoint.network) else { continue };
        for link in &endpoint.links {
            let Some(linked) = view.endpoint_named(&link.endpoint) else { continue };
            for address in &linked.addresses {
                line(address.addr(), &[link.alias.as_str(), linked.name.as_str()]);
            }
        }
    }
    let gateways = gateways(intent, &own, around);
    for host in &sandbox.hosts {
        match host.address {
            HostAddress::Ip(address) => line(address, &[&host.name]),
            HostAddress::Gateway => gateways.iter().for_each(|address| line(*address, &[&host.name])),
        }
    }
    text
}

/// A sandbox's endpoints by their interfaces: eth2 before eth10.
fn endpoints<'a>(intent: &'a Intent, me: NodeId, sandbox: &Name) -> Vec<&'a Endpoint> {
    let mut own: Vec<&Endpoint> = intent.endpoints_in(me, sandbox).collect();
    own.sort_by_key(|endpoint| (endpoint.ifname.as_str().len(), endpoint.ifname, endpoint.id));
    own
}

/// Where a sandbox reaches its host, at most one address of each family: as it was chosen, else the gateway of its first bridge,
/// else the host's end of the leg of its first overlay.
fn gateways(intent: &Intent, own: &[&Endpoint], around: &Context<'_>) -> Vec<IpAddr> {
    let of = |endpoint: &&Endpoint, by: InHost| -> Vec<IpAddr> {
        let view = intent.network(endpoint.network);
        let network = view.and_then(|view| view.network()).filter(|network| network.profile().in_host == by);
        let Some(network) = network.filter(|network| !network.internal || by == InHost::Bridge) else {
            return Vec::new();
        };
        let leg = intent.legs().get(&network.id).filter(|_| by == InHost::Leg);
        let outer = leg.into_iter().flat_map(|leg| leg.outer()).map(|outer| outer.addr());
        let bridge = network.subnets.iter().filter_map(|subnet| subnet.gateway);
        let bridge = bridge.filter(|_| by == InHost::Bridge);
        let has =
            |address: &IpAddr| endpoint.addresses.iter().any(|own| own.addr().is_ipv4() == address.is_ipv4());
        outer.chain(bridge).filter(has).collect()
    };
    let first = |v4: bool| {
        let fits = |address: &IpAddr| address.is_ipv4() == v4;
        let found = |by| own.iter().flat_map(|endpoint| of(endpoint, by)).find(fits);
        let chosen = around.host_gateways.iter().copied().find(fits);
        chosen.or_else(|| found(InHost::Bridge)).or_else(|| found(InHost::Leg))
    };
    [true, false].into_iter().filter_map(first).collect()
}

fn resolv(intent: &Intent, sandbox: &Sandbox, around: &Context<'_>) -> String {
    let (chosen, defaults, host) = (&sandbox.dns, around.defaults, around.host);
    let servers = dns::direct_servers(intent, around.me, sandbox, defaults, host);
    let first = |lists: [&Vec<String>; 3]| {
        lists.into_iter().find(|list| !list.is_empty()).cloned().unwrap_or_default()
    };
    let mut conf = ResolvConf {
        servers: Vec::new(),
        search: first([&chosen.search, &defaults.search, &host.search]),
        options: first([&chosen.options, &defaults.options, &host.options]),
    };
    if conf.search.iter().all(|domain| domain == ".") {
        conf.search.clear();
    }
    match servers {
        Some(servers) => conf.servers = servers,
        None => {
            conf.servers = vec![Server::from(IpAddr::V4(RESOLVER))];
            if !conf.options.iter().any(|option| option.starts_with("ndots:")) {
                // A bare name is one of ours before it is one of a domain that is searched.
                conf.options.push("ndots:0".into());
            }
        }
    }
    conf.render(&first_line(sandbox))
}

#[cfg(test)]
mod tests;
