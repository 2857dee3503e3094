//! `ovctl network`.

use std::{collections::BTreeMap, process::Stdio};

use ovnet_proto::v1 as pb;
use serde_json::{Value, json};
use tonic::Code;

use crate::fake::{Fake, World};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Two networks, two nodes and an endpoint on each.
pub(crate) fn world() -> World {
    let network = |digit: &str, name: &str, labels: &[(&str, &str)]| pb::Network {
        id: digit.repeat(64),
        name: name.into(),
        driver: "overlay".into(),
        scope: "global".into(),
        vni: 4096,
        subnets: vec![pb::Subnet {
            prefix: "10.0.0.0/24".into(),
            gateway: "10.0.0.1".into(),
            ip_range: String::new(),
            aux_addresses: map(&[("router", "10.0.0.9")]),
        }],
        labels: map(labels),
        options: map(&[("multicast", "true")]),
        created_ms: 1_709_251_199_999,
        ..Default::default()
    };
    let node = |name: &str, id: &str, me: bool| pb::NodeDetail {
        node: Some(pb::Node {
            id: id.into(),
            name: name.into(),
            vtep: "192.0.2.1".into(),
            version: "0.1.0".into(),
            ..Default::default()
        }),
        state: if me { "alive" } else { "suspect" }.into(),
        is_self: me,
        lease: true,
        endpoints: 1,
        ..Default::default()
    };
    let endpoint = |digit: &str, name: &str, node: &str| pb::Endpoint {
        id: digit.repeat(64),
        name: name.into(),
        network_id: "a".repeat(64),
        sandbox: name.into(),
        node_id: node.into(),
        mac: "02:42:0a:00:00:02".into(),
        addresses: vec!["10.0.0.2/24".into(), "fd00::2/64".into()],
        ifname: "eth0".into(),
        ..Default::default()
    };
    let (one, two) = ("6d1a1f5c-7f0e-4f8e-9a53-1d1d57b6a001", "b2c3d4e5-7f0e-4f8e-9a53-1d1d57b6a002");
    World {
        networks: vec![network("b", "ov_net2", &[]), network("a", "ov_net1", &[("tier", "front")])],
        nodes: vec![node("host2", two, false), node("host1", one, true)],
        endpoints: vec![endpoint("1", "web", one), endpoint("2", "db", two)],
        ..World::default()
    }
}

#[test]
fn create_prints_the_id_and_hands_on_every_option() {
    let fake = Fake::start(World::default());
    let line = "network create -d overlay --subnet 10.1.0.0/24 --subnet fd01::/64,10.2.0.0/24 --gateway 10.1.0.1 \
                --ip-range 10.1.0.128/25 --aux-address a=10.1.0.2 --ipv6 --internal --attachable --force \
                --label tier=front --label bare -o com.docker.network.driver.mtu=1400 ov_net1";
    assert_eq!(fake.ask(line, &[]).done(), format!("{}\n", "4f".repeat(32)));
    let expected = json!({
        "name": "ov_net1", "driver": "overlay", "subnets": ["10.1.0.0/24", "fd01::/64", "10.2.0.0/24"],
        "gateways": ["10.1.0.1"], "ip_ranges": ["10.1.0.128/25"], "aux_addresses": {"a": "10.1.0.2"},
        "ipv6": true, "internal": true, "force": true, "labels": {"tier": "front", "bare": ""},
        "options": {"com.docker.network.driver.mtu": "1400"},
    });
    assert_eq!(fake.asked("CreateNetwork"), [expected]);
}

#[test]
fn a_refusal_is_told_in_the_agents_words() {
    let mut world = World::default();
    let message = "subnet 10.0.0.0/8 overlaps the route 10.0.0.0/16 of this host: choose a different one or add \
         --force";
    world.refusals.insert("CreateNetwork", (Code::FailedPrecondition, message));
    let fake = Fake::start(world);
    let told = fake.ask("network create --subnet 10.0.0.0/8 n", &[]);
    assert_eq!(told.out, "");
    assert_eq!(told.failed(1), format!("ovctl: {message}\n"));
}

#[test]
fn contradicting_options_are_bad_usage() {
    let fake = Fake::start(World::default());
    let error = fake.ask("network create -o mtu=1 -o mtu=2 n", &[]).failed(2);
    assert!(error.contains("-o mtu is given with two values, \"1\" and \"2\""), "{error}");
    assert!(fake.calls().is_empty());
}

#[test]
fn ls_prints_dockers_columns_sorted_by_name() {
    let fake = Fake::start(world());
    let expected = "NETWORK ID     NAME      DRIVER    SCOPE\n\
                    aaaaaaaaaaaa   ov_net1   overlay   global\n\
                    bbbbbbbbbbbb   ov_net2   overlay   global\n";
    assert_eq!(fake.ask("network ls", &[]).done(), expected);
    assert_eq!(fake.ask("network list --format table", &[]).done(), expected);
    assert_eq!(fake.ask("network ls -q", &[]).done(), "aaaaaaaaaaaa\nbbbbbbbbbbbb\n");
    let whole = format!("{}\n{}\n", "a".repeat(64), "b".repeat(64));
    assert_eq!(fake.ask("network ls -q --no-trunc", &[]).done(), whole);
}

#[test]
fn ls_prints_by_template_and_as_json() {
    let fake = Fake::start(world());
    let table = fake.ask("network ls --format", &["table {{.Name}}\\t{{.Subnets}}"]).done();
    assert_eq!(table, "NAME      SUBNETS\nov_net1   10.0.0.0/24\nov_net2   10.0.0.0/24\n");
    let plain = fake.ask("network ls --format", &["{{.Name}}/{{upper .Driver}}"]).done();
    assert_eq!(plain, "ov_net1/OVERLAY\nov_net2/OVERLAY\n");
    let lines = fake.ask("network ls --format json", &[]).done();
    let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        objects[0],
        json!({
            "ID": "aaaaaaaaaaaa", "Name": "ov_net1", "Driver": "overlay", "Scope": "global", "IPv4": "true",
            "IPv6": "false", "Internal": "false", "Labels": "tier=front", "Subnets": "10.0.0.0/24", "VNI": "4096",
            "CreatedAt": "2024-02-29T23:59:59.999Z",
        })
    );
    let error = fake.ask("network ls --format", &["{{.Nmae}}"]).failed(1);
    assert!(
        error.starts_with("ovctl: --format: unknown field .Nmae: there are .CreatedAt, .Driver"),
        "{error}"
    );
}

#[test]
fn ls_filters() {
    let fake = Fake::start(world());
    let names = |filters: &str| fake.ask(&format!("network ls --format {{{{.Name}}}} {filters}"), &[]).done();
    assert_eq!(names("--filter name=net2"), "ov_net2\n");
    assert_eq!(names("--filter label=tier"), "ov_net1\n");
    assert_eq!(names("--filter label=tier=back"), "");
    assert_eq!(names("-f driver=overlay -f id=aaaa"), "ov_net1\n");
    assert_eq!(names("-f name=net1 -f name=net2 -f scope=global"), "ov_net1\nov_net2\n");
    let error = fake.ask("network ls --filter colour=red", &[]).failed(2);
    assert!(error.contains("there is no filter \"colour\": expected one of driver=…"), "{error}");
}

#[test]
fn inspect_prints_dockers_shape_with_the_endpoints_of_all_hosts() {
    let fake = Fake::start(world());
    let text = fake.ask("network inspect ov_net1", &[]).done();
    assert!(text.starts_with("[\n    {\n        \"Name\": \"ov_net1\",\n        \"Id\": \"aaaa"), "{text}");
    let array: Value = serde_json::from_str(&text).unwrap();
    let network = &array[0];
    assert_eq!(network["Created"], "2024-02-29T23:59:59.999Z");
    let config = json!([{
        "Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1", "IPRange": "",
        "AuxiliaryAddresses": {"router": "10.0.0.9"},
    }]);
    assert_eq!(network["IPAM"], json!({"Driver": "default", "Options": {}, "Config": config}));
    assert_eq!(
        network["Containers"]["2".repeat(64)],
        json!({
            "Name": "db", "EndpointID": "2".repeat(64), "MacAddress": "02:42:0a:00:00:02",
            "IPv4Address": "10.0.0.2/24", "IPv6Address": "fd00::2/64", "Node": "host2", "Sandbox": "db",
            "Ports": {},
        })
    );
    assert_eq!(
        network["Usage"][0],
        json!({"Subnet": "10.0.0.0/24", "Total": "254", "Used": "4", "Free": "250"})
    );
    assert_eq!((&network["VNI"], &network["MTU"]), (&json!(4096), &json!(1450)));
    assert_eq!(network["EnableIPv6"], json!(false));
    assert_eq!(network["Members"][0]["Node"], "host2");
    assert_eq!(network["HostRoutes"], json!(["10.0.0.0/24"]));
}

#[test]
fn inspect_goes_on_after_an_unknown_name_and_fails_at_the_end() {
    let fake = Fake::start(world());
    let told = fake.ask("network inspect nope ov_net2 --format {{.Name}}", &[]);
    assert_eq!(told.out, "ov_net2\n");
    assert!(told.failed(1).starts_with("ovctl: no network \"nope\""));
    let told = fake.ask("network inspect nope", &[]);
    assert_eq!((told.out.as_str(), told.status), ("[]\n", Some(1)));
    let one_line = fake.ask("network inspect ov_net1 ov_net2 --format json", &[]).done();
    assert_eq!(one_line.lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&one_line).unwrap().as_array().unwrap().len(), 2);
}

#[test]
fn inspect_templates_reach_everything() {
    let fake = Fake::start(world());
    let by = |template: &str| fake.ask("network inspect ov_net1 -f", &[template]).done();
    assert_eq!(by("{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}}"), "10.0.0.0/24 10.0.0.1\n");
    assert_eq!(
        by("{{range $id, $c := .Containers}}{{$c.Name}}@{{$c.Node}} {{end}}"),
        "web@host1 db@host2 \n"
    );
    assert_eq!(by("{{json .Labels}} {{index .Options \"multicast\"}}"), "{\"tier\":\"front\"} true\n");
}

#[test]
fn rm_takes_several_names_and_tells_each() {
    let fake = Fake::start(world());
    let told = fake.ask("network rm ov_net2 nope ov_net1", &[]);
    assert_eq!(told.out, "ov_net2\nov_net1\n");
    assert!(told.failed(1).contains("\"nope\""));
    assert_eq!(fake.ask("network rm -f nope", &[]).done(), "");
}

#[test]
fn prune_without_a_terminal_wants_force() {
    let fake = Fake::start(world());
    let output = fake.command().args(["network", "prune"]).stdin(Stdio::null()).output().unwrap();
    let error = crate::fake::Told::of(output).failed(1);
    assert!(error.contains("add -f"), "{error}");
    assert!(fake.calls().is_empty());
    let told = fake.ask("network prune -f", &[]);
    assert_eq!((told.out.as_str(), told.err.as_str()), ("ov_net2\nov_net1\n", "Deleted Networks:\n"));
}

#[test]
fn connect_hands_on_its_choices_and_warns_of_nodes_that_did_not_confirm() {
    let fake = Fake::start(World { unconfirmed: vec!["host2".into(), "host3".into()], ..World::default() });
    let line =
        "network connect --ip 10.0.0.5 --ip6 fd00::5 --mac-address 02:42:0A:00:00:05 --alias a --alias b n s";
    let told = fake.ask(line, &[]);
    assert_eq!((told.status, told.out.as_str()), (Some(0), ""));
    assert!(told.err.starts_with("warning: not confirmed by: host2, host3 ("), "{}", told.err);
    let attachment = json!({
        "network": "n", "ip": "10.0.0.5", "ip6": "fd00::5", "mac_address": "02:42:0a:00:00:05", "aliases": ["a", "b"],
    });
    assert_eq!(fake.said("ConnectSandbox"), [json!({"sandbox": "s", "attachment": attachment})]);
    fake.ask("network disconnect -f n s", &[]).done();
    assert_eq!(fake.asked("DisconnectSandbox"), [json!({"network": "n", "sandbox": "s", "force": true})]);
}

#[test]
fn a_malformed_address_is_refused_before_the_agent_is_asked() {
    let fake = Fake::start(World::default());
    let error = fake.ask("network connect --ip 10.0.0 n s", &[]).failed(2);
    assert!(error.contains("\"10.0.0\" is not an IPv4 address: expected one such as 10.0.0.5"), "{error}");
    assert!(fake.calls().is_empty());
}
