//! `ovctl network create`.

use clap::Args;
use ovnet_proto::v1 as pb;

use super::super::parse_pair;
use crate::{
    cli::Context,
    failure::{Exit, Failure},
};

/// `network create`
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// How the network is built
    #[arg(short, long, default_value = "overlay")]
    driver: String,
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
    /// Option of the driver: mtu=BYTES, vni=NUMBER or multicast=true; Docker's com.docker.network.driver.mtu and
    /// com.docker.network.driver.overlay.vxlanid_list are understood as well
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
            driver: self.driver,
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

/// The pairs as a map.
fn unique(
    option: &str,
    pairs: Vec<(String, String)>,
) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    let mut map = std::collections::BTreeMap::new();
    for (key, value) in pairs {
        if let Some(earlier) = map.insert(key.clone(), value.clone()).filter(|earlier| *earlier != value) {
            return Err(Failure::Usage(format!(
                "{option} {key} is given with two values, {earlier:?} and {value:?}: expected one"
            )));
        }
    }
    Ok(map)
}
