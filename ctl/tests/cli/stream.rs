//! `ovctl diff`, `events`, `store dump` and `version`.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ovnet_proto::v1 as pb;
use serde_json::{Value, json};

use crate::fake::{Fake, Told, World, ovctl};

fn event(kind: &str, action: &str, name: &str) -> pb::Event {
    pb::Event {
        time_ms: 1_709_251_199_999,
        r#type: kind.into(),
        action: action.into(),
        id: "abc".into(),
        name: name.into(),
        attributes: [("node".to_owned(), "host1".to_owned())].into(),
    }
}

#[test]
fn diff_prints_what_would_be_done_and_nothing_when_in_sync() {
    let fake = Fake::start(World::default());
    assert_eq!(fake.ask("diff --exit-code ov_net1", &[]).done(), "");
    assert_eq!(fake.asked("Diff"), [json!({"network": "ov_net1"})]);
    let line = pb::DiffLine { unit: "network ov_net1".into(), operation: "add fdb 02:42:0a:00:00:02".into() };
    let fake = Fake::start(World { diff: vec![line], ..World::default() });
    let text = "network ov_net1: add fdb 02:42:0a:00:00:02\n";
    assert_eq!(fake.ask("diff", &[]).done(), text);
    let told = fake.ask("diff --exit-code", &[]);
    assert_eq!((told.status, told.out.as_str()), (Some(1), text));
    assert_eq!(fake.ask("diff --format {{.Unit}}", &[]).done(), "network ov_net1\n");
}

#[test]
fn events_are_printed_as_they_come_until_ctrl_c() {
    let events = vec![event("network", "create", "n"), event("node", "down", "host2")];
    let fake = Fake::start(World { events, ..World::default() });
    let mut child =
        fake.command().arg("events").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first, "2024-02-29T23:59:59.999Z network create abc (name=n, node=host1)");
    assert!(lines.next().unwrap().unwrap().contains(" node down abc "));
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(Told::of(child.wait_with_output().unwrap()).done(), "");
}

#[test]
fn events_are_filtered_and_formatted_and_their_end_is_told() {
    let events = vec![event("network", "create", "n"), event("node", "down", "host2")];
    let fake = Fake::start(World { events, events_end: true, ..World::default() });
    let told = fake.ask("events --filter type=node --format json", &[]);
    let object: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(object["Name"], "host2");
    assert_eq!(object["Attributes"], json!({"node": "host1"}));
    assert!(told.failed(3).contains("the agent ended the stream"));
    let told = fake.ask("events --filter action=create --format {{.Type}}:{{.Attributes.node}}", &[]);
    assert_eq!(told.out, "network:host1\n");
}

#[test]
fn the_store_is_dumped_as_lines_of_json() {
    let entry = pb::StoreEntry {
        key: "/ovnet/v1/networks/ab".into(),
        json: r#"{"name":"n","vni":7}"#.into(),
        mod_revision: 12,
        store: "etcd".into(),
    };
    let fake = Fake::start(World { store: vec![entry], ..World::default() });
    let expected = json!({
        "Key": "/ovnet/v1/networks/ab", "Value": {"name": "n", "vni": 7}, "ModRevision": 12, "Store": "etcd",
    });
    let line = fake.ask("store dump", &[]).done();
    assert_eq!((line.lines().count(), serde_json::from_str::<Value>(&line).unwrap()), (1, expected.clone()));
    let pretty = fake.ask("store dump --pretty", &[]).done();
    assert!(pretty.lines().count() > 1);
    assert_eq!(serde_json::from_str::<Value>(&pretty).unwrap(), expected);
    assert_eq!(
        fake.ask("store dump --format", &["{{.Key}} {{.Value.vni}}"]).done(),
        "/ovnet/v1/networks/ab 7\n"
    );
}

#[test]
fn version_tells_of_both_sides() {
    let fake = Fake::start(World::default());
    let text = fake.ask("version", &[]).done();
    assert!(text.starts_with("Client:\n Version:"), "{text}");
    assert!(text.contains("\nAgent:\n Version:") && text.contains("host1 (6d1a1f5c-"), "{text}");
    assert_eq!(fake.ask("version --format", &["{{.Agent.NodeName}}"]).done(), "host1\n");
}

#[test]
fn version_tells_of_ovctl_when_the_agent_is_away() {
    let away = |words: &[&str]| {
        Told::of(ovctl().args(["-H", "/nowhere/s", "version"]).args(words).output().unwrap())
    };
    let told = away(&[]);
    assert!(told.out.starts_with("Client:\n Version:") && !told.out.contains("Agent"), "{}", told.out);
    assert!(told.failed(3).contains("cannot reach the agent"));
    let told = away(&["-f", "{{.Client.Version}}"]);
    assert_eq!(told.out, concat!(env!("CARGO_PKG_VERSION"), "\n"));
    told.failed(3);
}
