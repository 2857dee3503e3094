//! Checks of what `-p` and `--expose` take.

use proptest::prelude::*;

use super::*;

/// `IP HOST-HOST PORT/PROTOCOL` of each request.
fn requests(text: &str) -> Vec<String> {
    let publish: Publish = text.parse().unwrap();
    assert_eq!(publish.len(), publish.requests().count());
    let shown = |request: pb::PortRequest| {
        let pb::PortRequest { protocol, host_ip, host_port, host_port_end, port } = request;
        format!("{host_ip} {host_port}-{host_port_end} {port}/{protocol}")
    };
    publish.requests().map(shown).collect()
}

#[test]
fn one_port_is_published_as_docker_does() {
    for (text, expected) in [
        ("80", " 0-0 80/tcp"),
        (":80", " 0-0 80/tcp"),
        ("8080:80", " 8080-0 80/tcp"),
        ("8080:80/udp", " 8080-0 80/udp"),
        ("8080:80/SCTP", " 8080-0 80/sctp"),
        ("127.0.0.1:8080:80", "127.0.0.1 8080-0 80/tcp"),
        ("127.0.0.1::80", "127.0.0.1 0-0 80/tcp"),
        ("[::1]:8080:80", "::1 8080-0 80/tcp"),
        ("[::1]::80/udp", "::1 0-0 80/udp"),
        ("0.0.0.0:8080:80", "0.0.0.0 8080-0 80/tcp"),
        ("8000-8010:80", " 8000-8010 80/tcp"),
        ("8000-8000:80", " 8000-0 80/tcp"),
        ("65535:1", " 65535-0 1/tcp"),
    ] {
        assert_eq!(requests(text), [expected], "{text}");
    }
}

#[test]
fn ranges_are_published_port_by_port() {
    let expected = [" 8000-0 80/udp", " 8001-0 81/udp", " 8002-0 82/udp"];
    assert_eq!(requests("8000-8002:80-82/udp"), expected);
    assert_eq!(requests("80-81"), [" 0-0 80/tcp", " 0-0 81/tcp"]);
    assert_eq!(requests("1-65535:1-65535").len(), 65535);
}

#[test]
fn a_malformed_port_is_refused_with_what_would_be_right() {
    for (text, part) in [
        ("", "the sandbox's port is missing"),
        ("80:", "the sandbox's port is missing"),
        ("8080:0", "port 0 does not exist"),
        ("0:80", "no host port to get a free one"),
        ("8080:65536", "the port 65536 is out of range: expected 1 to 65535"),
        ("99999999999:80", "the port 99999999999 is out of range"),
        ("-1:80", "\"\" is not a port"),
        ("+1:80", "\"+1\" is not a port: expected a number"),
        ("http:80", "\"http\" is not a port"),
        ("80/icmp", "\"icmp\" is not a protocol with ports: expected tcp, udp or sctp"),
        ("80/", "expected tcp, udp or sctp"),
        ("8000-8002:80-81", "8000-8002 is 3 ports of the host and 80-81 is 2 ports of the sandbox"),
        ("8000:80-81", "8000 is 1 port of the host"),
        ("8010-8000:80", "ends before it begins: expected 8000-8010"),
        ("1-2-3:80", "\"2-3\" is not a port"),
        ("127.0.0.1:80", "expected 127.0.0.1:HOST:PORT, or 127.0.0.1::PORT"),
        ("localhost:8080:80", "\"localhost\" is not an IPv4 address: expected one such as 10.0.0.5"),
        ("300.0.0.1:8080:80", "\"300.0.0.1\" is not an IPv4 address"),
        ("::1:8080:80", "in brackets: expected one such as [::1]:8080:80"),
        ("[::1]:80", "expected [::1]:HOST:PORT"),
        ("[::1]80:80", "expected [::1]:HOST:PORT"),
        ("[::1:80:80", "no closing ']'"),
        ("[10.0.0.1]:80:80", "\"10.0.0.1\" is not an IPv6 address"),
    ] {
        let error = text.parse::<Publish>().unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn exposed_ports_are_asked_for_one_by_one() {
    let exposed: Exposed = "80-82/udp".parse().unwrap();
    let asked: Vec<_> = exposed.requests().map(|request| (request.port, request.host_port)).collect();
    assert_eq!(asked, [(80, 0), (81, 0), (82, 0)]);
    for bad in ["", "0", "8080:80", "80/x", "2-1"] {
        assert!(bad.parse::<Exposed>().is_err(), "{bad}");
    }
    assert_eq!("53/UDP".parse::<Port>().unwrap().to_string(), "53/udp");
    assert!("53-54".parse::<Port>().is_err());
}

prop_compose! {
    fn range(length: u16)(first in 1..=u16::MAX - length) -> Range {
        Range { first, last: first + length }
    }
}

fn publish() -> impl Strategy<Value = Publish> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let ranges = (0..100_u16, 0..100_u16, 0..3).prop_flat_map(|(length, other, kind)| {
        let (host, ports) = if kind == 0 { (other, 0) } else { (length, length) };
        (range(host).prop_map(move |range| (kind < 2).then_some(range)), range(ports))
    });
    (any::<Option<IpAddr>>(), ranges, protocol).prop_map(|(ip, (host, ports), protocol)| Publish {
        ip,
        host,
        ports,
        protocol,
    })
}

proptest! {
    #[test]
    fn what_is_written_out_parses_back(publish in publish()) {
        let ip = match publish.ip {
            Some(IpAddr::V4(v4)) => format!("{v4}:"),
            Some(IpAddr::V6(v6)) => format!("[{v6}]:"),
            None => String::new(),
        };
        let host = publish.host.map(|range| range.to_string()).unwrap_or_default();
        let text = format!("{ip}{host}:{}/{}", publish.ports, publish.protocol.as_str());
        prop_assert_eq!(text.parse::<Publish>(), Ok(publish.clone()), "{}", text);
        for request in publish.requests() {
            prop_assert!((1..=65535).contains(&request.port));
            prop_assert!(request.host_port <= 65535 && request.host_port_end <= 65535);
            prop_assert!(request.host_port_end == 0 || request.host_port < request.host_port_end);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9:/\\[\\]a-f.-]{0,24}|\\PC{0,16}") {
        let parsed = text.parse::<Publish>();
        prop_assert!(parsed.is_ok_and(|publish| publish.len() >= 1) || text.parse::<Publish>().is_err());
    }
}
