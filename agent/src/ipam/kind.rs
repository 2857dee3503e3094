//! Which subnets have a gateway.

use std::net::IpAddr;

use super::span::Span;
use crate::model::DriverSettings;

/// What a driver does with a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubnetKind {
    /// It has a gateway: the chosen one, or its first address.
    WithGateway,
    /// It has none (p2p, ipvlan in the modes l3 and l3s). It may be as small as two addresses.
    WithoutGateway,
}

impl SubnetKind {
    /// What a driver that is set so does.
    pub const fn of(settings: &DriverSettings) -> Self {
        match settings.profile().gateway {
            Ok(()) => Self::WithGateway,
            Err(_why) => Self::WithoutGateway,
        }
    }

    /// How many bits of an address a subnet leaves at least: /30 and /126 with a gateway, /31 and /127 without (RFC 3021, RFC
    /// 6164).
    pub(super) const fn least_host_bits(self) -> u8 {
        match self {
            Self::WithGateway => 2,
            Self::WithoutGateway => 1,
        }
    }

    /// Who a subnet must have room for.
    pub(super) const fn members(self) -> &'static str {
        match self {
            Self::WithGateway => "a gateway and endpoints",
            Self::WithoutGateway => "two endpoints",
        }
    }

    /// The gateway of a subnet for which none was chosen.
    pub(super) fn first_gateway(self, usable: Span) -> Option<IpAddr> {
        match self {
            Self::WithGateway => Some(usable.first_address()),
            Self::WithoutGateway => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use ipnet::IpNet;

    use super::{super::*, SubnetKind::*};

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> std::net::IpAddr {
        text.parse().unwrap()
    }

    fn request(subnets: &[&str]) -> SubnetRequest {
        SubnetRequest { subnets: subnets.iter().map(ToString::to_string).collect(), ..Default::default() }
    }

    #[test]
    fn a_subnet_without_a_gateway_may_be_as_small_as_two_addresses() {
        let small = parse_subnets(&request(&["10.0.0.2/31", "fd00::/127"]), WithoutGateway).unwrap();
        for (subnet, addresses) in small.iter().zip([["10.0.0.2", "10.0.0.3"], ["fd00::", "fd00::1"]]) {
            assert_eq!(subnet.gateway, None);
            let mut used = BTreeSet::new();
            for address in addresses {
                assert_eq!(check_chosen(&small, ip(address)), Ok(subnet));
                assert_eq!(choose(subnet, &used, Pick::Lowest), Ok(ip(address)));
                used.insert(ip(address));
            }
            let full = choose(subnet, &used, Pick::Lowest).unwrap_err();
            assert!(full.to_string().contains("all 2 usable addresses are taken"), "{full}");
            assert_eq!(usage(subnet, &used), Usage { total: 2, used: 2, free: 0 });
        }
        let usual = automatic(net("10.0.0.0/24"), WithoutGateway).unwrap();
        assert_eq!(
            (usual.gateway, choose(&usual, &BTreeSet::new(), Pick::Lowest)),
            (None, Ok(ip("10.0.0.1")))
        );
        assert!(check_chosen(&[usual], ip("10.0.0.0")).unwrap_err().reason.contains("the network address"));
    }

    #[test]
    fn a_subnet_without_a_gateway_takes_ranges_and_names_but_no_gateway() {
        let ranged = SubnetRequest {
            subnets: vec!["10.0.0.0/31".into(), "10.1.0.0/24".into()],
            ip_ranges: vec!["10.0.0.1/32".into(), "10.1.0.128/25".into()],
            aux: [("router".to_owned(), "10.1.0.1".to_owned())].into(),
            ..SubnetRequest::default()
        };
        let subnets = parse_subnets(&ranged, WithoutGateway).unwrap();
        assert_eq!(choose(&subnets[0], &BTreeSet::new(), Pick::Lowest), Ok(ip("10.0.0.1")));
        assert_eq!(subnets[1].aux_addresses, BTreeMap::from([("router".to_owned(), ip("10.1.0.1"))]));

        let refused = |change: &dyn Fn(&mut SubnetRequest), subnet: &str| {
            let mut request = request(&[subnet]);
            change(&mut request);
            parse_subnets(&request, WithoutGateway).unwrap_err().to_string()
        };
        let gateway = refused(&|r| r.gateways.push("10.0.0.1".into()), "10.0.0.0/24");
        assert_eq!(gateway, "invalid gateway \"10.0.0.1\": such a network has no gateway: do not give one");
        for (subnet, smallest) in [("10.0.0.1/32", "/31"), ("fd00::1/128", "/127")] {
            let error = refused(&|_| (), subnet);
            assert!(
                error.contains(&format!("too small for two endpoints: {smallest} is the smallest")),
                "{error}"
            );
        }
        let both = |r: &mut SubnetRequest| {
            r.aux = [("a", "10.0.0.0"), ("b", "10.0.0.1")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        };
        assert!(refused(&both, "10.0.0.0/31").contains("auxiliary addresses leave no address"));
    }

    #[test]
    fn drivers_say_whether_their_subnets_have_gateways() {
        use crate::model::{DriverSettings, IfName, IpvlanFlag, IpvlanMode, Parent};
        let ipvlan = |mode| {
            let parent = Parent { link: IfName::literal("eth0"), vlan: None };
            SubnetKind::of(&DriverSettings::Ipvlan(parent, mode, IpvlanFlag::default()))
        };
        assert_eq!(SubnetKind::of(&DriverSettings::P2p), WithoutGateway);
        assert_eq!([ipvlan(IpvlanMode::L2), ipvlan(IpvlanMode::L3)], [WithGateway, WithoutGateway]);
        assert_eq!(ipvlan(IpvlanMode::L3s), WithoutGateway);
    }
}
