//! Requests: parses requested networks, attachments and sandboxes. Nothing behind this parses them again.

use std::net::IpAddr;

use ovnet_proto::v1;

use crate::{
    convert::{self, MAX_ALIASES},
    ipam::SubnetRequest,
    model::{EndpointLink, Invalid, Mac, Name, Protocol, PublishedPort},
    service::{Adopt, AttachSpec, NetworkRequest, NetworkSpec, PortSpec, SandboxSpec, ServiceError},
};

/// A network.
pub(super) fn network(asked: v1::CreateNetworkRequest) -> Result<NetworkSpec, Invalid> {
    let request = NetworkRequest {
        name: asked.name,
        driver: asked.driver,
        subnets: SubnetRequest {
            subnets: asked.subnets,
            gateways: asked.gateways,
            ip_ranges: asked.ip_ranges,
            aux: asked.aux_addresses,
        },
        ipv6: asked.ipv6,
        internal: asked.internal,
        labels: asked.labels,
        options: asked.options,
        force: asked.force,
    };
    request.parse()
}

/// An attachment.
pub(super) fn attachment(asked: v1::Attachment) -> Result<AttachSpec, ServiceError> {
    let mac = match asked.mac_address.as_str() {
        "" => None,
        text => Some(text.parse::<Mac>()?),
    };
    refuse_many("alias", asked.aliases.len(), MAX_ALIASES)?;
    refuse_many("published port", asked.ports.len(), PublishedPort::MAX)?;
    let aliases = asked.aliases.iter().map(|text| Name::parse("alias", text)).collect::<Result<_, _>>()?;
    let link_local = asked.link_local_ips.iter().map(|text| {
        let address = optional_address("link-local address", text)?;
        let missing =
            || Invalid::new("link-local address", "", "expected one of 169.254.0.0/16 or fe80::/64");
        convert::link_local_address(address.ok_or_else(missing)?)
    });
    Ok(AttachSpec {
        network: asked.network,
        ip: optional_address("address", &asked.ip)?,
        ip6: optional_address("address", &asked.ip6)?,
        mac,
        aliases,
        ports: asked.ports.iter().map(port).collect::<Result<_, _>>()?,
        options: convert::parse_endpoint_options(&asked.options)?,
        link_local: link_local.collect::<Result<_, _>>()?,
        gateway_priority: convert::gateway_priority(asked.gateway_priority)?,
        links: asked.links.iter().map(EndpointLink::try_from).collect::<Result<_, _>>()?,
    })
}

fn refuse_many(what: &'static str, have: usize, most: usize) -> Result<(), Invalid> {
    if have <= most {
        return Ok(());
    }
    Err(Invalid::new(what, format!("{have} of them"), format!("at most {most} are allowed")))
}

fn optional_address(what: &'static str, text: &str) -> Result<Option<IpAddr>, Invalid> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_parse| {
            Invalid::new(what, text, "expected an IPv4 or IPv6 address without prefix length")
        }),
    }
}

fn optional_name(what: &'static str, text: &str) -> Result<Option<Name>, Invalid> {
    match text {
        "" => Ok(None),
        text => Name::parse(what, text).map(Some),
    }
}

/// A port to publish.
fn port(asked: &v1::PortRequest) -> Result<PortSpec, Invalid> {
    let protocol = match asked.protocol.as_str() {
        "" => Protocol::Tcp,
        text => text.parse()?,
    };
    let host_ports = match (asked.host_port, asked.host_port_end) {
        (0, 0) => None,
        (0, end) => {
            let reason = "the range has no first port: expected FIRST-LAST";
            return Err(Invalid::new("host port", format!("-{end}"), reason));
        }
        (first, 0) => {
            let first = convert::port_number("host port", first)?;
            Some(first..=first)
        }
        (first, end) => {
            let range = convert::port_number("host port", first)?..=convert::port_number("host port", end)?;
            if range.is_empty() {
                let reason = "the first port is higher than the last: expected FIRST-LAST";
                return Err(Invalid::new("host port", format!("{first}-{end}"), reason));
            }
            Some(range)
        }
    };
    Ok(PortSpec {
        protocol,
        host: optional_address("address of a published port", &asked.host_ip)?,
        host_ports,
        port: convert::port_number("port", asked.port)?,
    })
}

/// A sandbox with its attachments.
pub(super) fn sandbox(asked: v1::CreateSandboxRequest) -> Result<SandboxSpec, ServiceError> {
    let adopt = match (asked.pid, asked.netns.as_str()) {
        (0, "") => None,
        (pid, "") => Some(Adopt::Pid(pid)),
        (0, path) => Some(Adopt::Path(path.into())),
        (pid, path) => {
            let input = format!("--pid {pid} --netns {path}");
            return Err(Invalid::new("sandbox", input, "expected one of the two").into());
        }
    };
    let dns = convert::dns_choice(&asked.dns_servers, &asked.dns_search, &asked.dns_options)?;
    Ok(SandboxSpec {
        name: optional_name("sandbox name", &asked.name)?,
        adopt,
        attachments: asked.attachments.into_iter().map(attachment).collect::<Result<_, _>>()?,
        hostname: optional_name("hostname", &asked.hostname)?,
        domain: convert::domain(&asked.domain)?,
        dns,
        hosts: convert::extra_hosts(&asked.hosts)?,
        share: asked.share,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut v1::Attachment)) -> Result<AttachSpec, ServiceError> {
        let mut wire = v1::Attachment { network: "net".into(), ..Default::default() };
        change(&mut wire);
        attachment(wire)
    }

    fn port_of(protocol: &str, host_ip: &str, ports: (u32, u32, u32)) -> Result<AttachSpec, ServiceError> {
        let (host_port, host_port_end, port) = ports;
        let port = v1::PortRequest {
            protocol: protocol.into(),
            host_ip: host_ip.into(),
            host_port,
            host_port_end,
            port,
        };
        asked(|wire| wire.ports.push(port))
    }

    #[test]
    fn a_port_is_read_with_its_range() {
        let read = |ports| port_of("", "", ports).unwrap().ports[0].host_ports.clone();
        assert_eq!(read((0, 0, 80)), None);
        assert_eq!(read((8080, 0, 80)), Some(8080..=8080));
        assert_eq!(read((8080, 8090, 80)), Some(8080..=8090));
        let port = port_of("udp", "::", (53, 0, 53)).unwrap().ports.remove(0);
        assert_eq!((port.protocol, port.host, port.port), (Protocol::Udp, Some("::".parse().unwrap()), 53));
    }

    #[test]
    fn options_that_there_are_not_are_refused() {
        let refused = |name: &str, value: &str| {
            asked(|wire| drop(wire.options.insert(name.into(), value.into()))).unwrap_err().to_string()
        };
        let error = refused("sysctl", "x");
        assert!(error.ends_with("there is no such option of an endpoint; did you mean sysctls?"), "{error}");
        let error = refused("sysctls", "net.ipv4.ip_forward=1");
        assert!(error.contains("expected IFNAME once"), "{error}");
        // The same where the sandbox is made for it.
        let attachment = v1::Attachment {
            network: "lan".into(),
            options: [("ifname".to_owned(), "lo".to_owned())].into(),
            ..Default::default()
        };
        let wire = v1::CreateSandboxRequest {
            name: "new".into(),
            attachments: vec![attachment],
            ..Default::default()
        };
        assert!(
            super::sandbox(wire)
                .unwrap_err()
                .to_string()
                .contains("every sandbox already has an interface lo")
        );
    }

    #[test]
    fn names_are_read_and_a_sandbox_may_have_none() {
        let sandbox = |name: &str, hostname: &str| {
            super::sandbox(v1::CreateSandboxRequest {
                name: name.into(),
                hostname: hostname.into(),
                ..Default::default()
            })
        };
        let none = sandbox("", "").unwrap();
        assert_eq!((none.name, none.hostname), (None, None));
        assert_eq!(sandbox("web", "").unwrap().name, Some("web".parse().unwrap()));
        let error = sandbox("a b", "").unwrap_err().to_string();
        assert!(error.starts_with("invalid sandbox name \"a b\""), "{error}");
        let error = sandbox("web", "a b").unwrap_err().to_string();
        assert!(error.starts_with("invalid hostname \"a b\""), "{error}");
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_with_its_input() {
        let reason = |result: Result<AttachSpec, ServiceError>| result.unwrap_err().to_string();
        for (error, part) in [
            (
                reason(port_of("tcp", "", (70_000, 0, 80))),
                "invalid host port \"70000\": expected a number from 1 to 65535",
            ),
            (reason(port_of("tcp", "", (80, 0, 0))), "invalid port \"0\": expected a number from 1 to 65535"),
            (reason(port_of("tcp", "", (90, 80, 80))), "invalid host port \"90-80\""),
            (reason(port_of("tcp", "", (0, 80, 80))), "invalid host port \"-80\""),
            (reason(port_of("icmp", "", (0, 0, 80))), "expected tcp, udp or sctp"),
            (reason(port_of("tcp", "eth0", (0, 0, 80))), "invalid address of a published port \"eth0\""),
            (reason(asked(|wire| wire.gateway_priority = 100)), "expected a number from -1000 to 99"),
            (
                reason(asked(|wire| wire.link_local_ips.push("10.0.0.1".into()))),
                "169.254.0.0/16 or fe80::/64",
            ),
            (reason(asked(|wire| wire.link_local_ips.push(String::new()))), "169.254.0.0/16 or fe80::/64"),
            (reason(asked(|wire| wire.aliases = vec!["a".into(); 33])), "at most 32 are allowed"),
        ] {
            assert!(error.contains(part), "{error}");
        }
        let sandbox = |change: fn(&mut v1::CreateSandboxRequest)| {
            let mut wire = v1::CreateSandboxRequest::default();
            change(&mut wire);
            super::sandbox(wire).unwrap_err().to_string()
        };
        let hosts = sandbox(|wire| {
            wire.hosts.push(v1::ExtraHost { name: "a b".into(), address: "192.0.2.1".into() })
        });
        assert!(hosts.contains("invalid host \"a b:192.0.2.1\": character ' ' is not allowed"), "{hosts}");
        let hosts = sandbox(|wire| wire.hosts.push(v1::ExtraHost { name: "a".into(), address: "b".into() }));
        assert!(hosts.contains("expected an address or host-gateway after the name"), "{hosts}");
        assert!(sandbox(|wire| wire.domain = "a..b".into()).contains("invalid domain"));
        assert!(sandbox(|wire| wire.dns_options.push("ndot:2".into())).contains("did you mean ndots?"));
        assert!(sandbox(|wire| (wire.pid, wire.netns) = (1, "/x".into())).contains("one of the two"));
    }
}
