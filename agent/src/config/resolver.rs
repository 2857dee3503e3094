//! Defaults for sandboxes' resolvers.

use std::net::IpAddr;

use super::{bridge::is_unicast, key, settings::Settings};
use crate::{convert, model::DnsChoice};

/// The defaults of sandboxes' resolvers.
pub(super) fn read(settings: &mut Settings) -> DnsChoice {
    let choice = DnsChoice {
        servers: settings.list(key::DNS, |text| convert::dns_server(text).map_err(|invalid| invalid.reason)),
        search: settings
            .list(key::DNS_SEARCH, |text| convert::search_domain(text).map_err(|invalid| invalid.reason)),
        options: settings
            .list(key::DNS_OPT, |text| convert::dns_option(text).map_err(|invalid| invalid.reason)),
    };
    for (key, count) in [
        (key::DNS, choice.servers.len()),
        (key::DNS_SEARCH, choice.search.len()),
        (key::DNS_OPT, choice.options.len()),
    ] {
        if count > DnsChoice::MAX {
            settings.mistake(key, &format!("{count} are given, at most {} are allowed", DnsChoice::MAX));
        }
    }
    choice
}

/// The addresses of `host-gateway` in sandboxes' hosts files: at most one address of each family.
pub(super) fn host_gateways(settings: &mut Settings) -> Vec<IpAddr> {
    let addresses = settings.list(key::HOST_GATEWAY_IP, |text| {
        let address: IpAddr =
            text.parse().map_err(|_malformed| "expected an IPv4 or IPv6 address".to_owned())?;
        if is_unicast(address) {
            Ok(address)
        } else {
            Err("expected an address at which sandboxes reach this host".into())
        }
    });
    let twice = |v6: bool| addresses.iter().filter(|address| address.is_ipv6() == v6).count() > 1;
    if twice(false) || twice(true) {
        settings.mistake(
            key::HOST_GATEWAY_IP,
            "it is given twice for the same family; give at most one for IPv4 and one for IPv6",
        );
    }
    addresses
}
