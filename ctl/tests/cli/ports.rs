//! Published ports: `-p`, `-P`, `ovctl port`, and where lists show them.

use ovnet_proto::v1 as pb;
use serde_json::{Value, json};

use crate::{
    fake::{Fake, World},
    network::world,
};

/// The ports of the first attachment that was asked for last.
fn asked(fake: &Fake) -> Value {
    fake.said("CreateSandbox").pop().unwrap()["attachments"][0]["ports"].clone()
}

#[test]
fn ports_go_to_the_first_network() {
    let fake = Fake::start(World::default());
    let line = "sandbox create --network n --network m:publish=9090:90 -p 80 -p 8080:80/udp -p 127.0.0.1::443 \
                --publish [::1]:8000-8001:80-81 -p 8000-8010:82/sctp";
    fake.ask(line, &[]).done();
    let expected = json!([
        {"protocol": "tcp", "port": 80},
        {"protocol": "udp", "host_port": 8080, "port": 80},
        {"protocol": "tcp", "host_ip": "127.0.0.1", "port": 443},
        {"protocol": "tcp", "host_ip": "::1", "host_port": 8000, "port": 80},
        {"protocol": "tcp", "host_ip": "::1", "host_port": 8001, "port": 81},
        {"protocol": "sctp", "host_port": 8000, "host_port_end": 8010, "port": 82},
    ]);
    assert_eq!(asked(&fake), expected);
    let second = json!([{"protocol": "tcp", "host_port": 9090, "port": 90}]);
    assert_eq!(fake.said("CreateSandbox")[0]["attachments"][1]["ports"], second);
}

#[test]
fn all_exposed_ports_are_published_once() {
    let fake = Fake::start(World::default());
    fake.ask("sandbox create --network n -P --expose 80 --expose 53-54/udp --expose 80 -p 8053:53/udp", &[])
        .done();
    let expected = json!([
        {"protocol": "udp", "host_port": 8053, "port": 53},
        {"protocol": "tcp", "port": 80},
        {"protocol": "udp", "port": 54},
    ]);
    assert_eq!(asked(&fake), expected);
    fake.ask("sandbox create --network n --expose 80 other", &[]).done();
    assert_eq!(asked(&fake), Value::Null);
}

#[test]
fn a_wrong_port_is_bad_usage_and_says_what_would_be_right() {
    let fake = Fake::start(World::default());
    for (line, part) in [
        (
            "-p 80:65536",
            "'80:65536' for '--publish <PORTS>': the port 65536 is out of range: expected 1 to 65535",
        ),
        ("-p 0:80", "port 0 does not exist"),
        ("-p 8000-8002:80-81", "8000-8002 is 3 ports of the host and 80-81 is 2 ports of the sandbox"),
        ("-p 10.0.0:80:80", "\"10.0.0\" is not an IPv4 address"),
        ("-p 80:80/icmp", "\"icmp\" is not a protocol with ports: expected tcp, udp or sctp"),
        ("-p ::1:80:80", "an IPv6 address must be in brackets"),
        ("--expose 8080:80", "\"8080:80\" is not a port"),
        ("-P", "--publish-all publishes the ports given with --expose, and none is given: add --expose PORT"),
        (
            "-p 1-4000:1-4000 -p 5001-5097:5001-5097",
            "4097 ports are to be published in n: expected at most 4096",
        ),
        ("-P --expose 1-5000", "more than 4096 ports are to be published in n"),
    ] {
        let error = fake.ask(&format!("sandbox create --network n {line}"), &[]).failed(2);
        assert!(error.contains(part), "{line}: {error}");
    }
    assert!(fake.calls().is_empty());
}

/// A sandbox with two endpoints that publish ports.
fn published() -> World {
    let mut world = world();
    let port = |protocol: &str, ip: &str, host_port, port| pb::PublishedPort {
        protocol: protocol.into(),
        host_ip: ip.into(),
        host_port,
        port,
    };
    let mut endpoints = world.endpoints.clone();
    endpoints[0].ports = vec![port("tcp", "", 8080, 80), port("udp", "127.0.0.1", 9000, 9)];
    endpoints[0].addresses.truncate(1);
    endpoints[0].gateway_priority = 7;
    endpoints[0].link_local = vec!["169.254.0.9".into()];
    endpoints[0].sysctls = [("net/ipv4/conf/eth0/log_martians".to_owned(), "1".to_owned())].into();
    endpoints[0].links = vec![pb::EndpointLink { endpoint: "db".into(), alias: "store".into() }];
    endpoints[1].ports = vec![port("tcp", "::1", 8443, 443)];
    endpoints[1].network_id = "b".repeat(64);
    world.endpoints = endpoints.clone();
    let sandbox = pb::Sandbox {
        name: "web".into(),
        domain: "example.org".into(),
        dns_servers: vec!["10.0.0.53".into()],
        hosts: vec![pb::ExtraHost { name: "db".into(), address: "fd00::5".into() }],
        ..Default::default()
    };
    let networks = world.networks.clone();
    let detail = pb::SandboxDetail {
        sandbox: Some(sandbox),
        endpoints,
        networks,
        state: "up".into(),
        ..Default::default()
    };
    let sharing = pb::Sandbox { name: "side".into(), shares: "web".into(), ..Default::default() };
    let sharing = pb::SandboxDetail { sandbox: Some(sharing), state: "up".into(), ..Default::default() };
    world.sandboxes = vec![detail, sharing];
    world.interface = "ovb-aaaaaaaaaa".into();
    world
}

#[test]
fn port_prints_as_dockers_does() {
    let fake = Fake::start(published());
    let all = "9/udp -> 127.0.0.1:9000\n80/tcp -> 0.0.0.0:8080\n443/tcp -> [::1]:8443\n";
    assert_eq!(fake.ask("port web", &[]).done(), all);
    assert_eq!(fake.ask("port web 80", &[]).done(), "0.0.0.0:8080\n");
    assert_eq!(fake.ask("port web 443/tcp", &[]).done(), "[::1]:8443\n");
    assert_eq!(fake.ask("port side", &[]).done(), "");
    let error = fake.ask("port web 80/udp", &[]).failed(1);
    assert_eq!(
        error,
        "ovctl: port 80/udp of the sandbox web is not published: published are 443/tcp, 80/tcp, 9/udp\n"
    );
    let error = fake.ask("port side 80", &[]).failed(1);
    assert!(error.contains("it shares the namespace of web: see ovctl port web"), "{error}");
    assert!(fake.ask("port web 80-81", &[]).failed(2).contains("\"80-81\" is not a port"));
    assert!(fake.ask("port nope", &[]).failed(1).contains("no sandbox \"nope\""));
}

#[test]
fn lists_and_inspections_show_what_an_endpoint_has() {
    let fake = Fake::start(published());
    let listed = fake.ask("sandbox ls --format", &["{{.Name}}: {{.Ports}} {{.Shares}}"]).done();
    assert_eq!(
        listed,
        "side:  web\nweb: 127.0.0.1:9000->9/udp, 0.0.0.0:8080->80/tcp, [::1]:8443->443/tcp \n"
    );
    let by = |command: &str, template: &str| fake.ask(&format!("{command} -f"), &[template]).done();
    let classic = "{{(index (index .Ports \"80/tcp\") 0).HostPort}}";
    assert_eq!(by("sandbox inspect web", classic), "8080\n");
    assert_eq!(
        by("sandbox inspect web", "{{.Domainname}} {{.DNS}} {{.ExtraHosts}}"),
        "example.org [10.0.0.53] [db:fd00::5]\n"
    );
    let extras = "{{.GwPriority}} {{.LinkLocalIPs}} {{.Links}} {{json .Sysctls}}";
    let expected = "7 [169.254.0.9] [db:store] {\"net/ipv4/conf/eth0/log_martians\":\"1\"}\n";
    assert_eq!(by("endpoint inspect 1111", extras), expected);
    assert_eq!(by("endpoint inspect 1111", classic), "8080\n");
    let nested =
        "{{with .Networks.ov_net1}}{{.GwPriority}} {{.LinkLocalIPs}} {{.Links}} {{json .Sysctls}}{{end}}";
    assert_eq!(by("sandbox inspect web", nested), expected);
    let ports =
        "{{range $id, $c := .Containers}}{{range $p, $b := $c.Ports}}{{$p}} {{end}}{{end}}{{.Interface}}";
    assert_eq!(by("network inspect ov_net1", ports), "80/tcp 9/udp ovb-aaaaaaaaaa\n");
    assert_eq!(
        fake.ask("endpoint ls --filter name=web --format", &["{{.Ports}}"]).done(),
        "127.0.0.1:9000->9/udp, 0.0.0.0:8080->80/tcp\n"
    );
}
