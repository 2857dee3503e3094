//! A store, a file or a record that is lost takes nothing away: hosts hold what they have until it is back, or a person
//! decides.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab, OUTSIDE_V4},
    ping::Pings,
    wait::wait_until,
};

/// The file of a host's own store.
const STORE: &str = "/run/state/store.redb";
/// How long a host may take to say that it holds, or to go on.
const SOON: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let two = || Lab::builder().hosts(2);
    let served = || Lab::builder().hosts(2).etcd(false).agents(false);
    frame::run([
        Test::new("an etcd with an empty disk takes no network away", two(), empty_disk),
        Test::new("an etcd whose keys were all deleted takes no network away", two(), deleted_keys),
        Test::new("an agent that starts against an empty etcd takes no network away", two(), empty_at_start),
        Test::new("a person accepts an empty store for all hosts", two(), accepted),
        Test::new("keys of one kind that were deleted by hand take nothing away", two(), one_kind),
        Test::new("a host that holds goes on holding after a restart", two(), restarted),
        Test::new("a record that cannot be read at a start takes nothing away", two(), unreadable),
        Test::new("a served store whose file is empty or gone takes no network away", served(), served_lost),
        Test::new("a host without its own store's file keeps its sandboxes", two(), local_lost),
        Test::new("a host without its node id is the same node", two(), node_id_lost),
        Test::new("a host without its state directory keeps its sandboxes", two(), state_lost),
    ])
}

/// `a` on h1 and `b` on h2 in an overlay, `c` on h1 behind a bridge; pings between them and to the outside.
fn traffic(lab: &Lab) -> Result<Pings> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("a", &["net"])?;
    h2.create_sandbox("b", &["net"])?;
    h1.create_sandbox("c", &["bridge"])?;
    let (a, b) = (h1.address("net", "a")?, h2.address("net", "b")?);
    Pings::answered(vec![
        ("a to b", h1.ping_background(From::Sandbox("a"), &b)?),
        ("b to a", h2.ping_background(From::Sandbox("b"), &a)?),
        ("h2 to a", h2.ping_background(From::Host, &a)?),
        ("a to outside", h1.ping_background(From::Sandbox("a"), OUTSIDE_V4)?),
        ("c to outside", h1.ping_background(From::Sandbox("c"), OUTSIDE_V4)?),
    ])
}

/// What a crash of the machine, or a person, leaves of a file.
#[derive(Clone, Copy)]
enum Damage {
    Empty,
    Gone,
}

fn spoil(file: &Path, damage: Damage) -> Result<()> {
    match damage {
        Damage::Empty => fs::write(file, ""),
        Damage::Gone => fs::remove_file(file),
    }
    .with_context(|| file.display().to_string())
}

/// The host says that it holds: in its log at ERROR, in `node ls`, and to who asks it for a change.
fn wait_held(host: &Host, why: &str) -> Result<()> {
    wait_until(&format!("{} to hold", host.name), SOON, || {
        let listed = host.ovctl(&["node", "ls"])?;
        Ok(listed.stderr.contains(why))
    })?;
    let log = fs::read_to_string(host.log())?;
    ensure!(log.lines().any(|line| line.contains("ERROR") && line.contains(why)), "not in the log: {log}");
    for verb in [
        &["network", "create", "other"][..],
        &["sandbox", "create", "other"],
        &["sandbox", "rm", "-f", "a"],
        &["network", "prune", "-f"],
    ] {
        let refused = host.ovctl(verb)?;
        ensure!(refused.code() == 1 && refused.stderr.contains(why), "{verb:?}: {refused}");
    }
    let version = host.ovctl_ok(&["version"])?;
    ensure!(version.stdout.contains("not believed"), "{version}");
    Ok(())
}

/// The host holds no longer, and its kernel is as its stores say.
fn wait_released(host: &Host) -> Result<()> {
    wait_until(&format!("{} to go on", host.name), SOON, || {
        let version = host.ovctl(&["version"])?;
        Ok(version.status.success() && !version.stdout.contains("not believed"))
    })?;
    host.wait_ready()?;
    host.wait_in_sync()
}

fn works(lab: &Lab) -> Result<()> {
    let h2 = lab.host(2)?;
    h2.create_sandbox("late", &["net"])?;
    let late = h2.address("net", "late")?;
    ensure!(lab.host(1)?.ping(From::Sandbox("a"), &late, 3)?.none(), "a new endpoint is not reached");
    Ok(())
}

fn empty_disk(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    lab.etcd()?.lose()?;
    for host in &lab.hosts {
        wait_held(host, "the cluster's identity is not in it")?;
    }
    pings.go_on()?;
    // A second look, a restart and a fresh host's records are no reason to believe it either.
    lab.host(1)?.kill9_agent();
    lab.host(1)?.start_agent()?;
    wait_held(lab.host(1)?, "the cluster's identity is not in it")?;
    pings.go_on()?;
    lab.etcd()?.restore()?;
    lab.hosts.iter().try_for_each(wait_released)?;
    works(lab)?;
    pings.go_on()?;
    pings.without_loss()
}

fn deleted_keys(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    let etcd = lab.etcd()?;
    etcd.etcdctl(&["del", "--prefix", "/ovnet"])?.ok()?;
    for host in &lab.hosts {
        wait_held(host, "the cluster's identity is not in it")?;
    }
    pings.go_on()?;
    pings.without_loss()
}

fn empty_at_start(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    lab.hosts.iter().try_for_each(Host::stop_agent)?;
    lab.etcd()?.lose()?;
    for host in &lab.hosts {
        host.start_agent()?;
        wait_held(host, "the cluster's identity is not in it")?;
    }
    pings.go_on()?;
    lab.etcd()?.restore()?;
    lab.hosts.iter().try_for_each(wait_released)?;
    works(lab)?;
    pings.without_loss()
}

fn accepted(lab: &Lab) -> Result<()> {
    traffic(lab)?.without_loss()?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let early = h1.ovctl(&["cluster", "accept-empty", "-f"])?;
    ensure!(early.code() == 1 && early.stderr.contains("holds nothing"), "{early}");
    lab.etcd()?.lose()?;
    lab.hosts.iter().try_for_each(|host| wait_held(host, "the cluster's identity is not in it"))?;
    let asked = h1.ovctl(&["cluster", "accept-empty"])?;
    ensure!(asked.code() == 1 && asked.stderr.contains("add -f"), "{asked}");
    // One that comes back later hears of it, too.
    h2.kill9_agent();
    h1.ovctl_ok(&["cluster", "accept-empty", "-f"])?;
    wait_released(h1)?;
    h2.start_agent()?;
    wait_released(h2)?;
    for host in [h1, h2] {
        let networks = host.ovctl_ok(&["network", "ls"])?;
        ensure!(!networks.stdout.contains(" net "), "{networks}");
        wait_until("the lost network to leave the kernel", SOON, || {
            Ok(!host.exec_ok(&["ip", "netns", "list"])?.stdout.contains("ov-"))
        })?;
    }
    ensure!(h1.ping(From::Sandbox("c"), OUTSIDE_V4, 3)?.none(), "a network of the host itself was touched");
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    h1.ovctl_ok(&["network", "connect", "net", "a"])?;
    works(lab)
}

fn one_kind(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    let etcd = lab.etcd()?;
    for kind in ["nodes", "members", "networks"] {
        etcd.etcdctl(&["del", "--prefix", &format!("/ovnet/v1/{kind}/")])?.ok()?;
        pings.go_on()?;
        lab.hosts.iter().try_for_each(Host::wait_in_sync)?;
    }
    let listed = lab.host(1)?.ovctl_ok(&["node", "ls"])?;
    ensure!(listed.stderr.contains("networks/") && listed.stderr.contains("keeps it as it was"), "{listed}");
    etcd.etcdctl(&["del", "--prefix", "/ovnet/v1/endpoints/"])?.ok()?;
    lab.hosts.iter().try_for_each(|host| wait_held(host, "its name is still there"))?;
    pings.go_on()?;
    pings.without_loss()
}

fn restarted(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    let (h1, etcd) = (lab.host(1)?, lab.etcd()?);
    for name in ["d", "e", "f"] {
        h1.create_sandbox(name, &["net"])?;
    }
    // All that the network's endpoints had, on all hosts; the network and the nodes are there.
    for kind in ["endpoints", "endpoint-names", "addresses", "members"] {
        etcd.etcdctl(&["del", "--prefix", &format!("/ovnet/v1/{kind}/")])?.ok()?;
    }
    let why = "endpoints";
    lab.hosts.iter().try_for_each(|host| wait_held(host, why))?;
    for host in &lab.hosts {
        host.kill9_agent();
        host.start_agent()?;
        wait_held(host, why)?;
    }
    pings.go_on()?;
    pings.without_loss()
}

fn unreadable(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let etcd = lab.etcd()?;
    for kind in ["networks", "endpoints", "members", "nodes"] {
        let prefix = format!("/ovnet/v1/{kind}/");
        let keys = etcd.etcdctl(&["get", "--prefix", "--keys-only", &prefix])?.ok()?.stdout;
        let key = keys.lines().find(|line| line.starts_with(&prefix)).context("no such key")?.to_owned();
        let record = etcd.etcdctl(&["get", "--write-out=json", &key])?.ok()?.stdout;
        let record: serde_json::Value = serde_json::from_str(&record)?;
        let value = record["kvs"][0]["value"].as_str().context("no value")?.to_owned();
        etcd.etcdctl(&["put", &key, "garbage"])?.ok()?;
        for host in [h1, h2] {
            host.kill9_agent();
            host.start_agent()?;
        }
        pings.go_on().with_context(|| kind.to_owned())?;
        wait_until("the record to be named", SOON, || {
            Ok([h1, h2].iter().any(|host| {
                fs::read_to_string(host.log())
                    .is_ok_and(|log| log.contains(&key) && log.contains("cannot read a record"))
            }))
        })?;
        lab.switch_ok(&["sh", "-c", &format!("echo {value} | base64 -d | ETCDCTL_API=3 etcdctl put {key}")])?;
        for host in [h1, h2] {
            wait_released(host).with_context(|| kind.to_owned())?;
        }
        pings.go_on().with_context(|| kind.to_owned())?;
    }
    works(lab)?;
    pings.without_loss()
}

fn served_lost(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let store = format!("etcd://{}:2379", h1.address_v4());
    let start = |host: &Host| match host.name.as_str() {
        "h1" => host.start_agent_with(&["--store", "serve"]),
        _ => host.start_agent_with(&["--store", &store]),
    };
    for host in [h1, h2] {
        start(host)?;
        host.wait_ready()?;
    }
    h2.wait_nodes_alive(2)?;
    let mut pings = traffic(lab)?;
    let kept = h1.path("/run/kept.redb");
    for damage in [Damage::Empty, Damage::Gone] {
        h1.kill9_agent();
        fs::copy(h1.path(STORE), &kept)?;
        spoil(&h1.path(STORE), damage)?;
        start(h1)?;
        wait_held(h1, "the store file /run/state/store.redb")?;
        // An empty store is not served: to h2 it is away.
        wait_until("h2 to have no store", SOON, || Ok(h2.ovctl(&["version"])?.stdout.contains("away")))?;
        // Nor is it after another start.
        h1.kill9_agent();
        start(h1)?;
        wait_held(h1, "the store file /run/state/store.redb")?;
        pings.go_on()?;
        h1.kill9_agent();
        fs::copy(&kept, h1.path(STORE))?;
        start(h1)?;
        for host in [h1, h2] {
            wait_released(host)?;
        }
        pings.go_on()?;
    }
    wait_until("the served store to be there again", SOON, || {
        Ok(h2.ovctl(&["version"])?.stdout.contains("(connected"))
    })?;
    works(lab)?;
    pings.without_loss()?;
    // A person accepts that it is gone.
    h1.kill9_agent();
    spoil(&h1.path(STORE), Damage::Gone)?;
    start(h1)?;
    wait_held(h1, "the store file /run/state/store.redb")?;
    h1.ovctl_ok(&["cluster", "accept-empty", "-f"])?;
    for host in [h1, h2] {
        wait_released(host)?;
    }
    wait_until("what was lost to leave h1", SOON, || {
        Ok(!h1.exec_ok(&["ip", "netns", "list"])?.stdout.lines().any(|line| line.starts_with('a')))
    })?;
    h2.wait_nodes_alive(2)
}

fn local_lost(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    let h1 = lab.host(1)?;
    for name in ["d", "e"] {
        h1.create_sandbox(name, &["net"])?;
    }
    let kept = h1.path("/run/kept.redb");
    for damage in [Damage::Empty, Damage::Gone] {
        h1.kill9_agent();
        fs::copy(h1.path(STORE), &kept)?;
        spoil(&h1.path(STORE), damage)?;
        h1.start_agent()?;
        wait_held(h1, "the store file /run/state/store.redb")?;
        pings.go_on()?;
        let endpoints = lab.host(2)?.ovctl_ok(&["endpoint", "ls"])?;
        ensure!(endpoints.stdout.contains(" a "), "{endpoints}");
        h1.kill9_agent();
        fs::copy(&kept, h1.path(STORE))?;
        h1.start_agent()?;
        wait_released(h1)?;
        pings.go_on()?;
    }
    works(lab)?;
    pings.without_loss()?;
    // A person accepts that it is gone, and with it the endpoints of its sandboxes.
    h1.kill9_agent();
    spoil(&h1.path(STORE), Damage::Gone)?;
    h1.start_agent()?;
    wait_held(h1, "the store file /run/state/store.redb")?;
    h1.ovctl_ok(&["cluster", "accept-empty", "-f"])?;
    wait_released(h1)?;
    wait_until("the endpoints of h1 to go", SOON, || {
        let left = lab.host(2)?.ovctl_ok(&["endpoint", "ls", "--filter", "node=h1"])?;
        Ok(left.stdout.lines().count() == 1)
    })
}

fn node_id_lost(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    let h1 = lab.host(1)?;
    let id = h1.read("/run/state/node-id")?;
    for damage in [Damage::Gone, Damage::Empty] {
        h1.kill9_agent();
        spoil(&h1.path("/run/state/node-id"), damage)?;
        h1.start_agent()?;
        wait_released(h1)?;
        ensure!(h1.read("/run/state/node-id")? == id, "another node id");
        pings.go_on()?;
    }
    works(lab)?;
    pings.without_loss()
}

fn state_lost(lab: &Lab) -> Result<()> {
    let mut pings = traffic(lab)?;
    let h1 = lab.host(1)?;
    let id = h1.read("/run/state/node-id")?;
    h1.kill9_agent();
    h1.exec_ok(&["rm", "-rf", "/run/state"])?;
    h1.start_agent()?;
    wait_held(h1, "the store file /run/state/store.redb is gone")?;
    ensure!(h1.read("/run/state/node-id")? == id, "another node id");
    pings.go_on()?;
    // Without any copy of its id the agent does not start, and nothing is touched.
    h1.kill9_agent();
    h1.exec_ok(&["sh", "-c", "rm -rf /run/state /run/ovnet/node-id"])?;
    let refused = h1.agent_program()?.args(h1.agent_args()).run()?;
    ensure!(refused.code() == 1 && refused.stderr.contains("ovagent cleanup"), "{refused}");
    pings.go_on()?;
    pings.without_loss()
}
