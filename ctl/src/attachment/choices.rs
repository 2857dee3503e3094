//! What one can choose of an attachment: the options of `run`, `sandbox create` and `network connect`, and the choices behind
//! a network's name.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ovnet_proto::v1 as pb;

use super::conflict::Given;
use crate::{
    address::{MacAddress, parse_ip, parse_ip6, parse_link_local},
    failure::Failure,
    pairs::{parse_pair, unique},
    port::{MAX_PORTS, Publish},
};

/// The endpoint option that names the interface.
const IFNAME: &str = "com.docker.network.endpoint.ifname";

/// What one can choose of an attachment.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Options of the endpoint")]
pub(crate) struct Choices {
    /// IPv4 address of the sandbox in the network
    #[arg(long, value_name = "ADDRESS", value_parser = parse_ip)]
    ip: Option<Ipv4Addr>,
    /// IPv6 address of the sandbox in the network
    #[arg(long, value_name = "ADDRESS", value_parser = parse_ip6)]
    ip6: Option<Ipv6Addr>,
    /// MAC address of the sandbox in the network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<MacAddress>,
    /// Additional name of the sandbox in the network; may be given several times
    #[arg(long = "alias", visible_alias = "network-alias", alias = "net-alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// Endpoint of the network to link to, and the sandbox's own name for it; may be given several times
    #[arg(long = "link", value_name = "NAME[:ALIAS]")]
    links: Vec<Link>,
    /// Further address, of 169.254.0.0/16 or fe80::/64; may be given several times
    #[arg(long = "link-local-ip", value_name = "ADDRESS", value_parser = parse_link_local)]
    link_local_ips: Vec<IpAddr>,
    /// Of a sandbox's networks the one with the highest priority has its default route
    #[arg(long = "gw-priority", value_name = "NUMBER", allow_negative_numbers = true)]
    gateway_priority: Option<i32>,
    /// Option of the endpoint, such as com.docker.network.endpoint.ifname=eth7 or
    /// com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1; may be given several times
    #[arg(short = 'o', long = "driver-opt", value_name = "KEY=VALUE", value_parser = parse_pair)]
    options: Vec<(String, String)>,
    /// Publish a port at addresses of the host: [IP:][HOST]:PORT[/tcp|udp|sctp]; a free host port if HOST is
    /// left out, ranges as 8000-8010:80-90, the first free one of several as 8000-8010:80; may be given
    /// several times
    #[arg(short = 'p', long = "publish", value_name = "PORTS")]
    ports: Vec<Publish>,
}

/// `NAME[:ALIAS]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    endpoint: String,
    alias: String,
}

impl FromStr for Link {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (endpoint, alias) = text.split_once(':').unwrap_or((text, text));
        if endpoint.is_empty() || alias.is_empty() || alias.contains(':') {
            return Err(format!("{text:?} is not a link: expected NAME or NAME:ALIAS"));
        }
        Ok(Self { endpoint: endpoint.to_owned(), alias: alias.to_owned() })
    }
}

impl Choices {
    /// Takes `KEY=VALUE` from behind a network's name.
    ///
    /// # Errors
    /// An unknown key, a value that does not parse, or a second one where there can be one.
    pub(super) fn take(&mut self, choice: &str) -> Result<(), String> {
        let (key, value) = choice.split_once('=').unwrap_or((choice, ""));
        let named = |reason: String| format!("{key}: {reason}");
        match key {
            "ip" => once(&mut self.ip, choice, parse_ip(value)?)?,
            "ip6" => once(&mut self.ip6, choice, parse_ip6(value)?)?,
            "mac" | "mac-address" => once(&mut self.mac_address, choice, value.parse()?)?,
            "alias" if !value.is_empty() => self.aliases.push(value.to_owned()),
            "link" => self.links.push(value.parse()?),
            "link-local-ip" => self.link_local_ips.push(parse_link_local(value)?),
            "gw-priority" => {
                let number = value
                    .parse()
                    .map_err(|_reason| format!("{choice:?}: expected a number, such as gw-priority=10"))?;
                once(&mut self.gateway_priority, choice, number)?;
            }
            "driver-opt" => self.options.push(parse_pair(value).map_err(named)?),
            "ifname" if !value.is_empty() => self.options.push((IFNAME.into(), value.to_owned())),
            "publish" => self.ports.push(value.parse().map_err(named)?),
            _ => return Err(unknown(choice)),
        }
        Ok(())
    }

    /// These, and what options say as well.
    ///
    /// # Errors
    /// Both choose what there can be one of.
    pub(super) fn and(mut self, network: &str, options: Self) -> Result<Self, Failure> {
        let Self { ip, ip6, mac_address, aliases, links, link_local_ips, gateway_priority, .. } = options;
        let twice = |option: &str, key: &str| {
            Failure::Usage(format!(
                "--{option} and {key}=… of --network {network} set the same thing: leave one of the two out"
            ))
        };
        either(&mut self.ip, ip).map_err(|()| twice("ip", "ip"))?;
        either(&mut self.ip6, ip6).map_err(|()| twice("ip6", "ip6"))?;
        either(&mut self.mac_address, mac_address).map_err(|()| twice("mac-address", "mac"))?;
        either(&mut self.gateway_priority, gateway_priority)
            .map_err(|()| twice("gw-priority", "gw-priority"))?;
        self.aliases.extend(aliases);
        self.links.extend(links);
        self.link_local_ips.extend(link_local_ips);
        self.options.extend(options.options);
        self.ports.extend(options.ports);
        Ok(self)
    }

    /// The first option that was given, if any.
    pub(crate) fn given(&self) -> Option<Given> {
        let one = |given: bool, option| given.then_some(Given::Interface(option));
        one(self.ip.is_some(), "--ip")
            .or_else(|| one(self.ip6.is_some(), "--ip6"))
            .or_else(|| one(self.mac_address.is_some(), "--mac-address"))
            .or_else(|| one(!self.aliases.is_empty(), "--alias"))
            .or_else(|| one(!self.links.is_empty(), "--link"))
            .or_else(|| one(!self.link_local_ips.is_empty(), "--link-local-ip"))
            .or_else(|| one(self.gateway_priority.is_some(), "--gw-priority"))
            .or_else(|| one(!self.options.is_empty(), "--driver-opt"))
            .or_else(|| (!self.ports.is_empty()).then_some(Given::Ports("--publish")))
    }

    /// As the agent takes them.
    ///
    /// # Errors
    /// One option of the endpoint has two values, or more ports than there can be.
    pub(super) fn message(self, network: String) -> Result<pb::Attachment, Failure> {
        let ports: usize = self.ports.iter().map(Publish::len).sum();
        if ports > MAX_PORTS {
            return Err(Failure::Usage(format!(
                "{ports} ports are to be published in {network}: expected at most {MAX_PORTS}"
            )));
        }
        let text = |address: &dyn ToString| address.to_string();
        let link = |Link { endpoint, alias }| pb::EndpointLink { endpoint, alias };
        Ok(pb::Attachment {
            network,
            ip: self.ip.map(|ip| text(&ip)).unwrap_or_default(),
            ip6: self.ip6.map(|ip| text(&ip)).unwrap_or_default(),
            mac_address: self.mac_address.map(|mac| text(&mac)).unwrap_or_default(),
            aliases: self.aliases,
            ports: self.ports.iter().flat_map(Publish::requests).collect(),
            options: unique("--driver-opt", self.options)?,
            link_local_ips: self.link_local_ips.iter().map(ToString::to_string).collect(),
            gateway_priority: self.gateway_priority.unwrap_or_default(),
            links: self.links.into_iter().map(link).collect(),
        })
    }
}

fn once<T>(place: &mut Option<T>, choice: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_earlier) => Err(format!("{choice:?} is given twice: expected it once")),
    }
}

/// What either says; an error if both say something.
fn either<T>(place: &mut Option<T>, other: Option<T>) -> Result<(), ()> {
    match (&place, other) {
        (_, None) => Ok(()),
        (Some(_), Some(_)) => Err(()),
        (None, other) => {
            *place = other;
            Ok(())
        }
    }
}

fn unknown(choice: &str) -> String {
    let mut text = format!(
        "unknown choice {choice:?}: expected ip=A, ip6=A, mac=M, alias=N, link=N[:ALIAS], link-local-ip=A, gw-priority=NUMBER, \
         ifname=NAME, driver-opt=KEY=VALUE or publish=PORTS"
    );
    if !choice.contains('=') {
        text.push_str("; put a choice with a comma in double quotes");
    }
    text
}
