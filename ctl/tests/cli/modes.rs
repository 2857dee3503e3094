//! The modes of `--network` and of `network create -d`.

use std::{fs, process::Stdio};

use serde_json::json;

use crate::{
    fake::{Fake, Told, World, ovctl},
    network::world,
    run::{Lab, namespace, until},
};

#[test]
fn every_driver_reaches_the_agent_and_an_unknown_one_does_not() {
    let fake = Fake::start(World::default());
    let error = fake.ask("network create -d macvaln n", &[]).failed(2);
    assert!(error.contains("a similar value exists: 'macvlan'"), "{error}");
    let drivers =
        error.split_once("[possible values: ").and_then(|(_, rest)| rest.split_once(']')).unwrap().0;
    assert!(drivers.starts_with("overlay, bridge, macvlan, ipvlan, p2p"), "{error}");
    assert!(fake.calls().is_empty());
    for driver in drivers.split(", ") {
        fake.ask(&format!("network create -d {driver} n"), &[]).done();
        assert_eq!(fake.said("CreateNetwork").pop().unwrap(), json!({"name": "n", "driver": driver}));
    }
    let help = fake.ask("network create --help", &[]).done();
    for part in ["parent=LINK", "ipvlan_mode=MODE", "ovnet.publish=local|mesh", "icc=false"] {
        assert!(help.contains(part), "{help}");
    }
}

#[test]
fn only_a_network_with_a_vni_shows_one() {
    let mut world = world();
    world.networks[0].driver = "bridge".into();
    world.networks[0].scope = "local".into();
    world.networks[0].vni = 0;
    let (local, global) = (world.networks[0].name.clone(), world.networks[1].name.clone());
    let fake = Fake::start(world);
    assert_eq!(
        fake.ask("network ls --filter scope=local --format {{.Name}}:{{.VNI}}", &[]).done(),
        format!("{local}:\n")
    );
    assert_eq!(fake.ask("network ls -q --filter driver=overlay", &[]).done().lines().count(), 1);
    let shown = fake.ask(&format!("network inspect {local}"), &[]).done();
    assert!(!shown.contains("VNI") && shown.contains("\"Scope\": \"local\""), "{shown}");
    assert!(fake.ask(&format!("network inspect {global}"), &[]).done().contains("\"VNI\": 4096"));
}

#[test]
fn options_choose_for_the_first_network() {
    let fake = Fake::start(World::default());
    let line = "sandbox create --network n:alias=a --network name=m,ip=10.1.0.5,gw-priority=-3 --ip 10.0.0.5 --ip6 fd00::5 \
                --mac-address 02:42:0a:00:00:05 --network-alias b --alias c --link db --link cache:c1 --link-local-ip \
                169.254.0.9 --gw-priority 5 --driver-opt com.docker.network.endpoint.ifname=eth7 -o k=1,2";
    fake.ask(line, &[]).done();
    let attachments = json!([
        {
            "network": "n", "ip": "10.0.0.5", "ip6": "fd00::5", "mac_address": "02:42:0a:00:00:05",
            "aliases": ["a", "b", "c"], "link_local_ips": ["169.254.0.9"], "gateway_priority": 5,
            "links": [{"endpoint": "db", "alias": "db"}, {"endpoint": "cache", "alias": "c1"}],
            "options": {"com.docker.network.endpoint.ifname": "eth7", "k": "1,2"},
        },
        {"network": "m", "ip": "10.1.0.5", "gateway_priority": -3},
    ]);
    assert_eq!(fake.said("CreateSandbox"), [json!({"attachments": attachments})]);
}

#[test]
fn connect_has_the_same_options() {
    let fake = Fake::start(World::default());
    let line = "network connect --link db:d --link-local-ip fe80::9 -o k=v --gw-priority -1 -p 8080:80 n s";
    fake.ask(line, &[]).done();
    let attachment = json!({
        "network": "n", "links": [{"endpoint": "db", "alias": "d"}], "link_local_ips": ["fe80::9"],
        "options": {"k": "v"}, "gateway_priority": -1, "ports": [{"protocol": "tcp", "host_port": 8080, "port": 80}],
    });
    assert_eq!(fake.said("ConnectSandbox"), [json!({"sandbox": "s", "attachment": attachment})]);
    let error = fake.ask("network connect -o k=1 -o k=2 n s", &[]).failed(2);
    assert!(error.contains("--driver-opt k is given with two values"), "{error}");
    let error = fake.ask("network connect --link-local-ip 10.0.0.1 n s", &[]).failed(2);
    assert!(error.contains("\"10.0.0.1\" is not a link-local address"), "{error}");
}

#[test]
fn what_does_not_go_together_is_bad_usage_in_clear_words() {
    let fake = Fake::start(World::default());
    let leave = "; leave one of the two out";
    for (line, part) in [
        ("run --network none --network n true", "--network none cannot be combined"),
        ("run --network container:a --network n true", "--network container:a cannot be combined"),
        ("run --network n --network n true", "--network n is given twice"),
        ("run --network container: true", "expected container:NAME"),
        ("run --network host:ip=10.0.0.1 true", "host is a mode and takes no choices"),
        ("run --network n:ip=10.0.0.5 --ip 10.0.0.6 true", "--ip and ip=… of --network n set the same thing"),
        ("run --network n:port=80 true", "unknown choice \"port=80\": expected ip=A"),
        ("run --network none -p 80 true", "--publish cannot be combined with --network none"),
        ("run --network none --ip 10.0.0.5 true", "--ip cannot be combined with --network none"),
        ("run --network host -p 80:80 true", "listens on the host's own ports"),
        ("run --network host --ip 10.0.0.5 true", "the process has the host's own interfaces"),
        ("run --network host --add-host a:10.0.0.5 true", "host's own /etc/hosts and /etc/resolv.conf"),
        ("run --network host --dns 10.0.0.5 true", leave),
        ("run --network host --name x true", "this starts no sandbox"),
        (
            "run --network container:a -p 80 true",
            "--publish cannot be combined with --network container:a: its ports are those of a",
        ),
        ("run --network container:a -P true", "--publish-all cannot be combined"),
        ("run --network container:a --expose 80 true", "--expose cannot be combined"),
        ("run --network container:a --dns 10.0.0.5 true", "--dns cannot be combined"),
        ("run --network container:a --dns-search x true", "--dns-search cannot be combined"),
        ("run --network container:a --dns-opt x true", "--dns-opt cannot be combined"),
        (
            "run --network container:a --hostname x true",
            "--hostname cannot be combined with --network container:a: it has the hostname of a",
        ),
        ("run --network container:a --domainname x true", "--domainname cannot be combined"),
        ("run --network container:a --add-host x:::1 true", "--add-host cannot be combined"),
        (
            "run --network container:a --mac-address 02:42:0a:00:00:05 true",
            "--mac-address cannot be combined",
        ),
        ("run --network container:a --link b true", "--link cannot be combined"),
        (
            "sandbox create --network container:a --pid 1",
            "--pid cannot be combined with --network container:a",
        ),
        ("sandbox create --network host", "start the process with ovctl run --network host"),
        (
            "sandbox create -p 80",
            "--publish applies to the sandbox's first network, and it has none: add --network",
        ),
        ("sandbox create --alias a", "--alias applies to the sandbox's first network"),
    ] {
        let error = fake.ask(line, &[]).failed(2);
        assert!(error.contains(part), "{line}: {error}");
    }
    assert!(fake.calls().is_empty());
}

#[test]
fn run_attaches_to_bridge_unless_told_otherwise_and_sandbox_create_to_nothing() {
    let lab = Lab::new(World::default());
    assert_eq!(lab.ask(&["run", "-p", "80", "--", "true"]).status, Some(0));
    assert_eq!(lab.ask(&["run", "--name", "b", "--network", "none", "--", "true"]).status, Some(0));
    lab.fake.ask("sandbox create c", &[]).done();
    lab.fake.ask("sandbox create --network none d", &[]).done();
    let ports = json!([{"protocol": "tcp", "port": 80}]);
    assert_eq!(
        lab.fake.said("CreateSandbox"),
        [
            json!({"attachments": [{"network": "bridge", "ports": ports}]}),
            json!({"name": "b"}),
            json!({"name": "c"}),
            json!({"name": "d"}),
        ]
    );
}

#[test]
fn a_refusal_of_the_agent_starts_nothing() {
    let lab = Lab::new(World::default());
    let told = lab.ask(&["run", "--network", "container:nope", "--", "echo", "started"]);
    assert_eq!(told.out, "");
    assert!(told.failed(1).contains("no sandbox \"nope\""));
    assert_eq!(lab.fake.calls(), ["CreateSandbox"]);
}

#[test]
fn container_mode_enters_the_owners_namespace_with_its_names() {
    let lab = Lab::new(World::default());
    lab.fake.ask("sandbox create --hostname own a", &[]).done();
    let script = "readlink /proc/self/ns/net; hostname; cat /etc/hosts";
    let told = lab.ask(&["run", "--name", "b", "--network", "container:a", "--", "sh", "-c", script]);
    let owners = namespace(lab.holder.child(), "net");
    assert_eq!(told.out, format!("{owners}\nown\n10.9.8.7 sandboxed\n"), "{told:?}");
    assert_eq!(lab.fake.said("CreateSandbox")[1], json!({"name": "b", "share": "a"}));
    assert_eq!(lab.fake.ask("sandbox inspect b -f {{.Shares}}", &[]).done(), "a\n");
}

#[test]
fn exec_in_a_sandbox_that_was_removed_says_so() {
    let lab = Lab::new(World::default());
    lab.fake.ask("sandbox create a", &[]).done();
    lab.fake.change(|world| world.sandboxes[0].state = "left".into());
    let error = lab.ask(&["exec", "a", "true"]).failed(1);
    assert!(
        error.contains("the sandbox a was removed, and its namespace exists only for the sandboxes"),
        "{error}"
    );
    assert_eq!(lab.fake.ask("sandbox ls -q --filter state=left", &[]).done(), "a\n");
}

/// ovctl with an agent that is not there.
fn without_agent(lab: &Lab, words: &[&str]) -> Told {
    let mut ovctl = lab.ovctl();
    Told::of(ovctl.env("OVCTL_HOST", "/no/such/api.sock").args(words).stdin(Stdio::null()).output().unwrap())
}

#[test]
fn host_mode_runs_without_agent_and_sandbox() {
    let words = [
        "run",
        "--network",
        "host",
        "--rm",
        "--",
        "sh",
        "-c",
        "readlink /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/uts; exit 5",
    ];
    let own = ["net", "mnt", "uts"].map(|kind| namespace(std::process::id(), kind));
    // No right is needed either.
    let told = Told::of(ovctl().args(words).env("OVCTL_HOST", "/no/such/api.sock").output().unwrap());
    assert_eq!((told.out, told.status), (own.join("\n") + "\n", Some(5)));
    let lab = Lab::new(World::default());
    let told = without_agent(&lab, &["run", "--network", "host", "--", "no-such-command"]);
    assert_eq!(told.failed(127), "ovctl: cannot run no-such-command: command not found\n");
}

#[test]
fn host_mode_has_a_hostname_of_its_own_if_asked() {
    let lab = Lab::new(World::default());
    let script = "hostname; cat /proc/sys/kernel/domainname; readlink /proc/self/ns/mnt";
    let words = [
        "run",
        "--network",
        "host",
        "--hostname",
        "h.example",
        "--domainname",
        "example",
        "--",
        "sh",
        "-c",
        script,
    ];
    let told = without_agent(&lab, &words);
    let expected = format!("h.example\nexample\n{}\n", namespace(std::process::id(), "mnt"));
    assert_eq!((told.out.as_str(), told.err.as_str()), (expected.as_str(), ""));
    assert_ne!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), "h.example\n");
}

#[test]
fn a_detached_process_in_host_mode_is_told_by_its_number() {
    let lab = Lab::new(World::default());
    let told = without_agent(&lab, &["run", "--network", "host", "-d", "--", "sleep", "600"]);
    let pid: i32 = told.done().trim().parse().unwrap();
    let comm = format!("/proc/{pid}/comm");
    until("the command runs", || fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}
