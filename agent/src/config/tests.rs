//! Sources and their precedence, values, and mistakes, all told at once.

use std::{ffi::OsString, net::IpAddr, path::Path};

use super::*;
use crate::ipam::default_pools;

fn load_with(args: &[&str], variables: &[(&str, &str)]) -> Result<Config, LoadError> {
    let variables: Vec<(String, OsString)> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let args = ["ovagent"].iter().chain(args).map(Into::into).collect::<Vec<OsString>>();
    load(args, move |name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
}

/// The mistakes as they are shown, with the file's name shortened.
fn mistakes(args: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    match load_with(args, variables).unwrap_err() {
        LoadError::Mistakes(ConfigErrors(all)) => all.iter().map(ToString::to_string).collect(),
        LoadError::Usage(error) => panic!("a usage error: {error}"),
    }
}

/// A configuration file that is there as long as the directory.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path.to_str().unwrap().to_owned())
}

#[test]
fn without_anything_the_defaults_hold() {
    let (_dir, empty) = file("");
    let config = load_with(&["--config", &empty], &[]).unwrap();
    assert_eq!((config.gossip_port, config.vxlan_port), (7946, 4789));
    assert_eq!((&config.store, config.advertise), (&StoreConfig::Local, Advertise::Auto));
    assert_eq!(config.pools, default_pools());
    assert_eq!(config.state_dir, Path::new("/var/lib/ovnet"));
    assert_eq!(config.lease_ttl, Duration::from_secs(15));
    assert_eq!(config.attach_deadline, Duration::from_millis(1000));
    assert_eq!((config.verb, config.node_name, config.log_level.as_str()), (Verb::Run, None, "info"));
}

#[test]
fn a_flag_goes_before_the_variable_and_the_variable_before_the_file() {
    let (_dir, path) = file("gossip-port = 1001\nvxlan-port = 1002\nlease-ttl = 20\njoin = [\"a\", \"b\"]\n");
    let config = load_with(
        &["--config", &path, "--gossip-port", "3001", "--join", "192.0.2.1", "--join", "[fd00::1]:5"],
        &[("OVNET_GOSSIP_PORT", "2001"), ("OVNET_VXLAN_PORT", "2002"), ("OVNET_JOIN", "c d")],
    )
    .unwrap();
    assert_eq!((config.gossip_port, config.vxlan_port), (3001, 2002));
    assert_eq!(config.lease_ttl, Duration::from_secs(20));
    let join: Vec<String> = config.join.iter().map(ToString::to_string).collect();
    assert_eq!(join, ["192.0.2.1:3001", "[fd00::1]:5"]);
}

#[test]
fn an_address_that_the_others_cannot_reach_is_refused_where_there_are_others() {
    let (_dir, empty) = file("");
    let load = |advertise: &str, store: &str| {
        load_with(&["--config", &empty, "--advertise", advertise, "--store", store], &[])
    };
    assert!(load("127.0.0.1", "local").is_ok(), "one host needs no others");
    for store in ["serve", "etcd://192.0.2.1:2379"] {
        for advertise in ["127.0.0.1", "::1"] {
            let error = load(advertise, store).unwrap_err().to_string();
            assert!(error.contains("cannot reach a loopback address"), "{error}");
        }
    }
    let error = load("300.1.1.1", "local").unwrap_err().to_string();
    assert!(error.contains("it is not an IPv4 address"), "{error}");
}

#[test]
fn mistakes_in_a_file_are_told_in_its_order_and_once_for_a_line_that_cannot_be_read() {
    let (_dir, path) = file("lease-ttl = 1\nnode-nam = \"x\"\ngossip-port = 0\n");
    let error = load_with(&["--config", &path, "--vxlan-port", "x"], &[]).unwrap_err().to_string();
    let at = |text: &str| error.find(text).unwrap_or_else(|| panic!("{text}: {error}"));
    let order = ["--vxlan-port", ":1: lease-ttl", ":2: node-nam", ":3: gossip-port"].map(at);
    assert!(order.is_sorted(), "{error}");
    let (_dir, path) = file("gossip-port = 1\njoin = [1 = \"x\n");
    let error = load_with(&["--config", &path], &[]).unwrap_err().to_string();
    assert_eq!(error.matches(":2: ").count(), 1, "{error}");
}

#[test]
fn every_setting_can_be_given_by_flag_variable_and_file() {
    for key in key::ALL {
        let value = match key.name {
            "default-address-pool" => "10.9.0.0/16,size=24",
            "store-cert" | "store-key" | "store-user" | "store-password-file" => continue,
            "store-ca" => "/ca.pem",
            "advertise" => "eth1",
            "lease-ttl" => "33",
            "attach-deadline" => "44",
            name if name.ends_with("port") => "1234",
            "mount-namespace" => "/somewhere",
            name if name.ends_with("dir") => "/somewhere",
            "store" => "etcd://192.0.2.7:1",
            "log-level" => "debug",
            "icc" | "ip-masq" | "ip-forward" => "false",
            "bip" => "192.0.2.1/24",
            "fixed-cidr" => "192.0.2.128/25",
            "mtu" => "1400",
            "default-gateway" | "dns" | "host-gateway-ip" => "192.0.2.9",
            "dns-opt" => "ndots:2",
            _ => "word",
        };
        let store = if key.name == "store-ca" { "store = \"etcd://h\"" } else { "" };
        let (_dir, without) = file(store);
        let (_dir_with, with) = file(&format!("{store}\n{} = \"{value}\"\n", key.name));
        let flag = load_with(&["--config", &without, &format!("--{}", key.name), value], &[]).unwrap();
        let variable = load_with(&["--config", &without], &[(&key.variable(), value)]).unwrap();
        let in_file = load_with(&[], &[("OVNET_CONFIG", &with)]).unwrap();
        assert_eq!(flag, variable, "{}", key.name);
        assert_eq!(flag, in_file, "{}", key.name);
        assert_ne!(flag, load_with(&["--config", &without], &[]).unwrap(), "{}", key.name);
    }
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let (_dir, path) = file(
        "# comment\ngossip_port = 1\nvxlan-port = \"many\"\n\njoin = [\"ok\", \"-bad-\"]\nlog-level = true\n[table]\n",
    );
    let mut all = mistakes(
        &[
            "--config",
            &path,
            "--advertise",
            "a/b",
            "--state-dir",
            "here",
            "--default-address-pool",
            "10.0.0.0/8",
        ],
        &[("OVNET_STORE", "redis://x"), ("OVNET_LEASE_TTL", "1"), ("OVNET_NODE_NAME", "a b")],
    );
    all.sort();
    let expected = [
        "--advertise \"a/b\": it is neither an address without a port nor an interface name: white space, \
         '/' and ':' are not allowed"
            .to_owned(),
        "--default-address-pool \"10.0.0.0/8\": expected CIDR,size=LENGTH such as 10.0.0.0/8,size=24".into(),
        "--state-dir \"here\": expected an absolute path, which begins with /".into(),
        format!("{path}:2: gossip_port: there is no such key; did you mean gossip-port?"),
        format!("{path}:3: vxlan-port = \"many\": expected a number from 1 to 65535"),
        format!("{path}:5: join = \"-bad-\": expected ADDRESS, NAME, ADDRESS:PORT or [IPV6]:PORT"),
        format!("{path}:6: log-level: expected a string or a number, not a value of type boolean"),
        format!("{path}:7: table: there is no such key; `ovagent --help` lists them"),
        "OVNET_LEASE_TTL=\"1\": expected a number from 5 to 3600".into(),
        "OVNET_NODE_NAME=\"a b\": character ' ' at position 2 is not allowed: a name starts with a letter or digit and \
         goes on with letters, digits, '_', '.' and '-'"
            .into(),
        "OVNET_STORE=\"redis://x\": expected local, serve, serve:PORT or etcd://HOST:PORT[,HOST:PORT]…".into(),
    ];
    let mut expected = Vec::from(expected);
    expected.sort();
    assert_eq!(all, expected);
}

#[test]
fn a_file_that_is_no_toml_is_told_with_the_lines() {
    let (_dir, path) = file("gossip-port = 1\nadvertise = \nnode-name = \"x\n");
    let all = mistakes(&["--config", &path], &[]);
    assert!(all.len() >= 2, "{all:?}");
    assert!(all[0].starts_with(&format!("{path}:2: ")), "{all:?}");
}

#[test]
fn a_named_file_must_exist() {
    assert_eq!(
        mistakes(&["--config", "/nonexistent/agent.toml"], &[]),
        ["--config \"/nonexistent/agent.toml\": there is no such file"]
    );
    assert_eq!(
        mistakes(&[], &[("OVNET_CONFIG", "/nonexistent/agent.toml")]),
        ["OVNET_CONFIG=\"/nonexistent/agent.toml\": there is no such file"]
    );
}

#[test]
fn stores_read_as_they_are_written() {
    for (text, expected) in [
        ("local", "local"),
        ("serve", "serve:2379"),
        ("serve:1234", "serve:1234"),
        ("etcd://192.0.2.1", "etcd://192.0.2.1:2379"),
        ("etcd://a:1,[fd00::1]:2/", "etcd://a:1,[fd00::1]:2"),
    ] {
        assert_eq!(text.parse::<StoreConfig>().unwrap().to_string(), expected);
    }
    for text in
        ["", "etcd", "etcd://", "etcd://a,,b", "etcd://a:0", "serve:", "serve:0", "https://a:1", "Local"]
    {
        assert!(text.parse::<StoreConfig>().is_err(), "{text}");
    }
}

#[test]
fn addresses_read_as_they_are_written() {
    assert_eq!("192.0.2.1".parse(), Ok(Advertise::Address(IpAddr::from([192, 0, 2, 1]))));
    assert_eq!("eth1".parse(), Ok(Advertise::Interface(IfName::literal("eth1"))));
    assert_eq!("auto".parse(), Ok(Advertise::Auto));
    for text in ["0.0.0.0", "224.0.0.1", "192.0.2.1:7946", "", "averylonginterface"] {
        assert!(text.parse::<Advertise>().is_err(), "{text}");
    }
    let read = |text: &str| HostPort::parse(text, 7946).map(|one| one.to_string());
    assert_eq!(read("fd00::1"), Ok("[fd00::1]:7946".into()));
    assert_eq!(read("[fd00::1]"), Ok("[fd00::1]:7946".into()));
    assert_eq!(read("node-1.example.org:1"), Ok("node-1.example.org:1".into()));
    for text in ["", ":1", "a:", "a:x", "a:70000", "1.2.3", "[fd00::1", "[a]:1", "a b", "a..b"] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn settings_of_the_store_that_need_each_other_are_told() {
    let (_dir, empty) = file("");
    let etcd = ["--config", &empty, "--store", "etcd://h"];
    fn with<'a>(etcd: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        [etcd, more].concat()
    }
    assert_eq!(
        mistakes(&with(&etcd, &["--store-cert", "/c", "--store-user", "u"]), &[]),
        [
            "--store-cert \"/c\": it needs --store-key too",
            "--store-user \"u\": it needs --store-password-file too"
        ]
    );
    let config = load_with(
        &with(
            &etcd,
            &["--store-cert", "/c", "--store-key", "/k", "--store-user", "u", "--store-password-file", "/p"],
        ),
        &[],
    )
    .unwrap();
    assert_eq!(config.store_tls, Some(StoreTls { ca: None, identity: Some(("/c".into(), "/k".into())) }));
    assert_eq!(config.store_login, Some(StoreLogin { user: "u".into(), password_file: "/p".into() }));
    assert_eq!(
        mistakes(&["--config", &empty, "--store-ca", "/c"], &[]),
        ["--store-ca \"/c\": it is valid only with --store etcd://…; the store is local"]
    );
}

#[test]
fn two_udp_ports_cannot_be_one() {
    let (_dir, empty) = file("");
    let all = mistakes(&["--config", &empty, "--gossip-port", "4789"], &[]);
    assert_eq!(
        all,
        ["--gossip-port \"4789\": the VXLAN devices use the same port; choose two different ports"]
    );
}

#[test]
fn cleanup_takes_the_same_settings_before_and_after_it() {
    let (_dir, empty) = file("");
    let before = load_with(&["--config", &empty, "--state-dir", "/s", "cleanup"], &[]).unwrap();
    let after = load_with(&["cleanup", "--config", &empty, "--state-dir", "/s"], &[]).unwrap();
    assert_eq!(before, after);
    assert_eq!((before.verb, before.state_dir.as_path()), (Verb::Cleanup { force: false }, Path::new("/s")));
}

#[test]
fn the_command_line_is_sound_and_its_help_names_every_source() {
    command().debug_assert();
    let help = command().render_long_help().to_string();
    for key in key::ALL {
        assert!(help.contains(&format!("--{}", key.name)), "{}", key.name);
        assert!(help.contains(&key.variable()), "{}", key.name);
    }
    assert!(matches!(load_with(&["--no-such-flag"], &[]), Err(LoadError::Usage(_))));
    assert!(matches!(load_with(&["--help"], &[]), Err(LoadError::Usage(_))));
}

#[test]
fn true_and_false_stand_in_a_file_as_words_of_toml() {
    let (_dir, path) = file("icc = false\nip-masq = \"0\"\nip-forward = 0\n");
    let config = load_with(&["--config", &path, "--ip-masq=true"], &[]).unwrap();
    assert_eq!((config.bridge.icc, config.bridge.masquerade, config.ip_forward), (false, true, false));
    let (_dir, path) = file("icc = \"no\"\n");
    assert_eq!(
        mistakes(&["--config", &path], &[]),
        [format!("{path}:1: icc = \"no\": expected true or false")]
    );
}

#[test]
fn the_network_bridge_is_read_with_what_belongs_together() {
    let (_dir, empty) = file("");
    let load = |more: &[&str]| load_with(&[&["--config", &empty], more].concat(), &[]);
    let bridge = load(&["-b", "br0"]).unwrap().bridge;
    assert_eq!(bridge.link, BridgeLink::Named(IfName::literal("br0")));
    assert_eq!(load(&["--bridge", "none"]).unwrap().bridge.link, BridgeLink::None);
    let both = load(&["--bip", "10.1.0.1/16", "--bip", "fd00::1/64", "--fixed-cidr", "10.1.2.0/24"]).unwrap();
    assert_eq!((both.bridge.addresses.len(), both.bridge.ranges.len()), (2, 1));
    let outside = load(&["--default-gateway", "10.9.0.1", "--fixed-cidr", "10.9.0.0/24"]).unwrap();
    assert_eq!(outside.bridge.gateways.len(), 1, "the subnet may be known only later");
}

#[test]
fn what_cannot_be_of_the_network_bridge_is_told() {
    let (_dir, empty) = file("");
    for (flags, part) in [
        (&["--bip", "10.1.0.0/16"][..], "choose one in between"),
        (&["--bip", "10.1.255.255/16"], "choose one in between"),
        (&["--bip", "10.1.0.1"], "such as 172.17.0.1/16"),
        (&["--bip", "10.1.0.1/31"], "/30 is the smallest"),
        (&["--bip", "127.0.0.1/8"], "expected the address of a host"),
        (&["--bip", "10.1.0.1/16", "--bip", "10.2.0.1/16"], "twice for the same family"),
        (&["--bip", "10.1.0.1/16", "--fixed-cidr", "10.2.0.0/24"], "10.2.0.0/24 lies outside 10.1.0.0/16"),
        (&["--bip", "10.1.0.1/16", "--default-gateway", "10.2.0.1"], "lies outside 10.1.0.0/16"),
        (&["--fixed-cidr", "10.1.0.1/24"], "did you mean 10.1.0.0/24?"),
        (&["--mtu", "100"], "expected a number from 576 to 65535"),
        (&["--mtu", "1000", "--bip", "fd00::1/64"], "needs an MTU from 1280"),
        (&["--bridge", "a b"], "white space"),
        (&["--bridge", "br0", "--bip", "10.1.0.1/16"], "the bridge br0 of --bridge has addresses already"),
        (&["--bridge", "none", "--mtu", "1400"], "--bridge none means no network bridge"),
        (&["--dns", "0.0.0.0"], "expected the address of a name server"),
        (&["--dns-search", "a b"], "character ' ' is not allowed"),
        (&["--dns-opt", "ndot:1"], "did you mean ndots?"),
        (&["--host-gateway-ip", "10.0.0.1", "--host-gateway-ip", "10.0.0.2"], "twice for the same family"),
        (&["--netns-etc-dir", "netns"], "expected an absolute path"),
    ] {
        let all = mistakes(&[&["--config", &empty], flags].concat(), &[]);
        assert!(all.len() == 1 && all[0].contains(part), "{flags:?}: {all:?}");
    }
}

#[test]
fn cleanup_alone_can_be_forced() {
    let (_dir, empty) = file("");
    let forced = load_with(&["--config", &empty, "cleanup", "--force"], &[]).unwrap();
    assert_eq!(forced.verb, Verb::Cleanup { force: true });
    assert!(matches!(load_with(&["--force"], &[]), Err(LoadError::Usage(_))));
}
