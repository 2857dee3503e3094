//! `ovctl sandbox`, `endpoint` and `node`.

use serde_json::{Value, json};

use crate::{
    fake::{Fake, World},
    network::world,
};

#[test]
fn sandbox_create_prints_the_name_and_attaches() {
    let fake = Fake::start(World::default());
    let told = fake.ask("sandbox create --network n:ip=10.0.0.5,alias=a --network m --hostname h box", &[]);
    assert_eq!(told.done(), "box\n");
    let attachments = json!([{"network": "n", "ip": "10.0.0.5", "aliases": ["a"]}, {"network": "m"}]);
    let expected = json!({"name": "box", "attachments": attachments, "hostname": "h"});
    assert_eq!(fake.said("CreateSandbox"), [expected]);
}

#[test]
fn sandbox_create_adopts_by_pid_or_path_but_not_both() {
    let fake = Fake::start(World::default());
    fake.ask("sandbox create --pid 42 a", &[]).done();
    let output =
        fake.command().args(["sandbox", "create", "--netns", "x/y"]).current_dir("/tmp").output().unwrap();
    assert_eq!(crate::fake::Told::of(output).done(), "quiet_heron\n");
    let asked = fake.asked("CreateSandbox");
    assert_eq!((&asked[0]["pid"], &asked[1]["netns"]), (&json!(42), &json!("/tmp/x/y")));
    fake.ask("sandbox create --pid 42 --netns /x a", &[]).failed(2);
    fake.ask("sandbox create --pid 0 a", &[]).failed(2);
}

#[test]
fn sandboxes_are_listed_shown_and_removed() {
    let fake = Fake::start(World { netns: "/run/netns/box".into(), ..World::default() });
    fake.ask("sandbox create box", &[]).done();
    assert_eq!(
        fake.ask("sandbox ls", &[]).done(),
        "SANDBOX ID     NAME      STATE     NETWORKS   ADDRESSES   PORTS     NETNS\n\
         abababababab   box       up                                         /run/netns/box\n"
    );
    assert_eq!(fake.ask("sandbox ls -q --filter state=up", &[]).done(), "box\n");
    assert_eq!(fake.ask("sandbox ls -q --filter network=n", &[]).done(), "");
    let shown: Value = serde_json::from_str(&fake.ask("sandbox inspect box", &[]).done()).unwrap();
    assert_eq!((&shown[0]["State"], &shown[0]["NetNS"]), (&json!("up"), &json!("/run/netns/box")));
    assert_eq!(fake.ask("sandbox inspect box -f {{.Networks.n}}", &[]).done(), "<no value>\n");
    let told = fake.ask("sandbox rm -f box nope", &[]);
    assert_eq!(told.out, "box\n");
    told.failed(1);
    assert_eq!(fake.asked("RemoveSandbox")[0], json!({"sandbox": "box", "force": true}));
}

#[test]
fn endpoints_of_all_hosts_are_listed() {
    let fake = Fake::start(world());
    assert_eq!(
        fake.ask("endpoint ls ov_net1", &[]).done(),
        "ENDPOINT ID    NAME      NETWORK   NODE      SANDBOX   ADDRESS                  MAC\n\
         222222222222   db        ov_net1   host2     db        10.0.0.2/24,fd00::2/64   02:42:0a:00:00:02\n\
         111111111111   web       ov_net1   host1     web       10.0.0.2/24,fd00::2/64   02:42:0a:00:00:02\n"
    );
    assert_eq!(fake.asked("ListEndpoints"), [json!({"network": "ov_net1"})]);
    assert_eq!(fake.ask("endpoint ls -q --filter node=host1", &[]).done(), "111111111111\n");
    let shown =
        fake.ask("endpoint inspect 1111 -f", &["{{.Name}} {{.IPv6Address}} {{.Network}} {{.Node}}"]).done();
    assert_eq!(shown, "web fd00::2/64 ov_net1 host1\n");
}

#[test]
fn nodes_are_listed_with_a_star_at_this_one() {
    let fake = Fake::start(world());
    assert_eq!(
        fake.ask("node ls", &[]).done(),
        "NODE ID           NAME      STATE     ADDRESS     VERSION   ENDPOINTS\n\
         6d1a1f5c-7f0e *   host1     alive     192.0.2.1   0.1.0     1\n\
         b2c3d4e5-7f0e     host2     suspect   192.0.2.1   0.1.0     1\n"
    );
    assert_eq!(fake.ask("node ls -q", &[]).done(), "6d1a1f5c-7f0e\nb2c3d4e5-7f0e\n");
    let own =
        fake.ask("node ls --filter state=alive --format", &["{{if .Self}}{{.Name}} {{.Endpoints}}{{end}}"]);
    assert_eq!(own.done(), "host1 1\n");
    assert_eq!(fake.ask("node inspect -f {{.Name}}", &[]).done(), "host1\n");
    let told = fake.ask("node rm --force host2", &[]);
    assert_eq!((told.out.as_str(), told.err.as_str()), ("host2\n", "removed with host2: 1 endpoints\n"));
}

#[test]
fn what_is_wrong_with_a_node_stands_below_the_table_and_in_every_other_form() {
    let mut world = world();
    let text = "node host2 is alive, but gossip does not reach it";
    world.nodes[0].warnings.push(text.into());
    let fake = Fake::start(world);
    let told = fake.ask("node ls", &[]);
    assert_eq!(told.err, format!("warning: {text}\n"));
    assert!(told.status == Some(0) && !told.out.contains("gossip"), "standard output is the table alone");
    assert_eq!(fake.ask("node ls -q", &[]).err, "", "identifiers only");
    let json = fake.ask("node ls --filter name=host2 --format json", &[]);
    assert_eq!(json.err, "");
    let row: Value = serde_json::from_str(&json.done()).unwrap();
    assert_eq!(row["Warnings"], json!([text]));
    let shown: Value = serde_json::from_str(&fake.ask("node inspect host2", &[]).done()).unwrap();
    assert_eq!(shown[0]["Warnings"], json!([text]));
}
