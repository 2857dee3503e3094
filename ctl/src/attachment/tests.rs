//! Checks of the texts of attachments and modes.

use ovnet_proto::v1 as pb;
use proptest::prelude::*;

use super::*;

fn message(text: &str) -> pb::Attachment {
    text.parse::<Attachment>().unwrap().message().unwrap()
}

#[test]
fn an_attachment_names_its_network_and_choices() {
    let choices = "ip=10.0.0.5,ip6=fd00::5,mac=02:42:0A:00:00:05,alias=a,alias=b,link=db,link=cache:c,link-local-ip=169.254.0.9,\
                   link-local-ip=fe80::9,gw-priority=-5,ifname=eth7,\"driver-opt=k=1,2\",publish=[::1]:8080:80/udp";
    let link =
        |endpoint: &str, alias: &str| pb::EndpointLink { endpoint: endpoint.into(), alias: alias.into() };
    let expected = pb::Attachment {
        network: "net1".into(),
        ip: "10.0.0.5".into(),
        ip6: "fd00::5".into(),
        mac_address: "02:42:0a:00:00:05".into(),
        aliases: vec!["a".into(), "b".into()],
        ports: vec![pb::PortRequest {
            protocol: "udp".into(),
            host_ip: "::1".into(),
            host_port: 8080,
            host_port_end: 0,
            port: 80,
        }],
        options: [("com.docker.network.endpoint.ifname", "eth7"), ("k", "1,2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        link_local_ips: vec!["169.254.0.9".into(), "fe80::9".into()],
        gateway_priority: -5,
        links: vec![link("db", "db"), link("cache", "c")],
    };
    assert_eq!(message(&format!("net1:{choices}")), expected);
    assert_eq!(message(&format!("name=net1,{choices}")), expected);
    assert_eq!(message(&format!("{choices},name=net1")), expected);
    let dockers = "name=n,alias=x,driver-opt=a=b,mac-address=02:42:0a:00:00:05,gw-priority=1";
    assert_eq!(message(dockers).mac_address, "02:42:0a:00:00:05");
    assert_eq!(message("net1").network, "net1");
    assert_eq!(message("net1:").network, "net1");
}

#[test]
fn a_malformed_attachment_is_refused_with_what_is_expected() {
    for (text, part) in [
        ("", "name is missing"),
        (":ip=10.0.0.1", "name is missing"),
        ("ip=10.0.0.1", "name is missing"),
        ("name=", "name is missing"),
        ("name=a,name=b", "is given twice"),
        ("n:name=b", "unknown choice \"name=b\""),
        ("n,alias=x", "unknown choice \"n\""),
        ("n:ip=10.0.0", "10.0.0.5"),
        ("n:ip6=10.0.0.1", "fd00::5"),
        ("n:mac=02:42:0a:00:00", "02:42:0a:00:00:05"),
        ("n:mac=01:42:0a:00:00:05", "02:42:0a:00:00:05"),
        ("n:mac=+2:42:0a:00:00:05", "02:42:0a:00:00:05"),
        ("n:port=1", "unknown choice \"port=1\""),
        ("n:alias=", "unknown choice \"alias=\""),
        ("n:ip=10.0.0.1,ip=10.0.0.2", "is given twice"),
        ("n:link=a:b:c", "expected NAME or NAME:ALIAS"),
        ("n:link=:b", "expected NAME or NAME:ALIAS"),
        ("n:link-local-ip=10.0.0.1", "169.254.0.0/16 or fe80::/64"),
        ("n:gw-priority=high", "expected a number"),
        ("n:driver-opt==1", "driver-opt: the key is empty"),
        ("n:publish=80:0", "publish: port 0 does not exist"),
        ("n:driver-opt=a=1,2", "in double quotes"),
        ("n:\"driver-opt=a=1,2", "is not closed"),
    ] {
        let error = text.parse::<Attachment>().unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let twice = "n:driver-opt=a=1,driver-opt=a=2".parse::<Attachment>().unwrap().message().unwrap_err();
    assert!(twice.to_string().contains("--driver-opt a is given with two values"), "{twice}");
    let many = "n:publish=1-4096:1-4096,publish=9".parse::<Attachment>().unwrap().message().unwrap_err();
    assert!(
        many.to_string().contains("4097 ports are to be published in n: expected at most 4096"),
        "{many}"
    );
}

#[test]
fn modes_are_told_from_networks() {
    let network = |text: &str| text.parse::<Network>();
    assert_eq!(network("none"), Ok(Network::None));
    assert_eq!(network("name=none"), Ok(Network::None));
    assert_eq!(network("host"), Ok(Network::Host));
    assert_eq!(network("container:web"), Ok(Network::Container("web".into())));
    assert_eq!(network("name=container:web"), Ok(Network::Container("web".into())));
    assert!(matches!(network("hosts:alias=none"), Ok(Network::Of(_))));
    assert!(network("container:").unwrap_err().contains("expected container:NAME"));
    assert!(network("none:ip=10.0.0.1").unwrap_err().contains("expected nothing after it"));
    assert!(network("name=host,alias=a").unwrap_err().contains("expected nothing after it"));
}

#[test]
fn a_mode_stands_alone_and_a_network_once() {
    let mode = |texts: &[&str], usual| {
        let networks = texts.iter().map(|text| text.parse().unwrap()).collect();
        Mode::of(networks, usual).map_err(|failure| failure.to_string())
    };
    assert_eq!(mode(&[], None), Ok(Mode::Unsaid));
    assert_eq!(mode(&["none"], Some("bridge")), Ok(Mode::None));
    assert_eq!(mode(&["host"], Some("bridge")), Ok(Mode::Host));
    assert_eq!(mode(&["container:a"], None), Ok(Mode::Container("a".into())));
    let bridge = Attachment::of("bridge".into(), Choices::default());
    assert_eq!(mode(&[], Some("bridge")), Ok(Mode::Networks(vec![bridge])));
    for (texts, part) in [
        (&["none", "n"][..], "--network none cannot be combined"),
        (&["n", "container:a"], "--network container:a cannot be combined"),
        (&["host", "host"], "--network host cannot be combined"),
        (&["n:ip=10.0.0.5", "n"], "--network n is given twice"),
    ] {
        assert!(mode(texts, None).unwrap_err().contains(part), "{texts:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z=:,\"0-9.]{0,40}|\\PC{0,24}") {
        if let Ok(Network::Of(attachment)) = text.parse::<Network>() {
            prop_assert!(!attachment.network.is_empty());
        }
    }

    #[test]
    fn choices_come_back_whatever_they_hold(aliases in prop::collection::vec("[a-z,\" =:]{1,8}", 0..4)) {
        let choices: Vec<_> =
            aliases.iter().map(|alias| format!(",\"alias={}\"", alias.replace('"', "\"\""))).collect();
        prop_assert_eq!(message(&format!("name=n{}", choices.concat())).aliases, aliases);
    }
}
