//! `ovctl network create`.

use clap::{Args, ValueEnum};
use ovnet_proto::v1 as pb;

use crate::{
    cli::Context,
    failure::{Exit, Failure},
    pairs::{parse_pair, unique},
};

/// How a network is built.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Driver {
    /// VXLAN between the hosts
    Overlay,
    /// A bridge on this host
    Bridge,
    /// Links with MAC addresses of their own on a link of this host
    Macvlan,
    /// Links that share the MAC address of a link of this host
    Ipvlan,
    /// A pair of interfaces between two sandboxes of this host
    P2p,
}

impl Driver {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// No line longer than 80 characters: help is wrapped on narrow terminals.
const OPTIONS: &str = "\
Options of every driver (-o KEY=VALUE):
  mtu=BYTES                 MTU of the endpoints
  ifname-prefix=TEXT        start of interface names, instead of eth
  ovnet.force=true          as --force
Options of overlay:
  vni=NUMBER                VXLAN identifier
  multicast=true            replicate broadcast and multicast to every host
  ovnet.publish=local|mesh  publish ports at the endpoint's host or at all
  masquerade=false          keep the source address of traffic to the outside
Options of bridge:
  bridge=NAME               name of the bridge, which may exist already
  icc=false                 sandboxes reach each other over links and ports only
  masquerade=false          keep the source address of traffic to the outside
  host-binding=ADDRESS      address of the host to publish ports at
Options of macvlan and ipvlan:
  parent=LINK               the host's link; eth0.10 is VLAN 10 of eth0
  macvlan_mode=MODE         bridge, private, vepa or passthru
  ipvlan_mode=MODE          l2, l3 or l3s
  ipvlan_flag=FLAG          bridge, private or vepa

Docker's long names work too, such as
com.docker.network.driver.mtu and com.docker.network.bridge.enable_icc.
Only overlay networks span hosts; all others are local.";

/// `network create`
#[derive(Args, Debug)]
#[command(after_help = OPTIONS)]
pub(crate) struct Create {
    /// How the network is built
    #[arg(short, long, value_enum, default_value_t = Driver::Overlay)]
    driver: Driver,
    /// Subnet such as 10.1.0.0/24; may be given several times. Chosen from the agent's pools if absent
    #[arg(long = "subnet", value_name = "CIDR", value_delimiter = ',')]
    subnets: Vec<String>,
    /// Gateway address, in one of the subnets
    #[arg(long = "gateway", value_name = "ADDRESS", value_delimiter = ',')]
    gateways: Vec<String>,
    /// Part of a subnet that automatic addresses come from
    #[arg(long = "ip-range", value_name = "CIDR", value_delimiter = ',')]
    ip_ranges: Vec<String>,
    /// Address that is not given out, with the name of who has it
    #[arg(long = "aux-address", value_name = "NAME=ADDRESS", value_delimiter = ',', value_parser = parse_aux)]
    aux_addresses: Vec<(String, String)>,
    /// Also an IPv6 subnet
    #[arg(long)]
    ipv6: bool,
    /// No way to the hosts and to the outside
    #[arg(long)]
    internal: bool,
    /// Accepted as in Docker: sandboxes can be attached to any network
    #[arg(long)]
    attachable: bool,
    /// Label of the network
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    labels: Vec<(String, String)>,
    /// Option of the driver, see below; may be given several times
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = parse_pair)]
    options: Vec<(String, String)>,
    /// Take a subnet although it overlaps a route of this host
    #[arg(long)]
    force: bool,
    /// Name of the network
    name: String,
}

impl Create {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(super) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let request = pb::CreateNetworkRequest {
            name: self.name,
            driver: self.driver.name(),
            subnets: self.subnets,
            gateways: self.gateways,
            ip_ranges: self.ip_ranges,
            aux_addresses: unique("--aux-address", self.aux_addresses)?,
            ipv6: self.ipv6,
            internal: self.internal,
            labels: unique("--label", self.labels)?,
            options: unique("-o", self.options)?,
            force: self.force,
        };
        let reply = cx.agent().await?.create_network(request).await?.into_inner();
        let network =
            reply.network.ok_or_else(|| Failure::Refused("the agent's answer has no network".into()))?;
        cx.out.line(&network.id)?;
        Ok(Exit::DONE)
    }
}

/// The name and the address of `NAME=ADDRESS`, both of them there.
fn parse_aux(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, address)| !name.is_empty() && !address.is_empty());
    let (name, address) = pair.ok_or("expected NAME=ADDRESS such as router=10.1.0.5")?;
    Ok((name.to_owned(), address.to_owned()))
}
