//! Who is there: joins, leaves, failures and rejoins, with and without etcd, and what is thrown at the gossip port.

use std::{
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ovagent::{
    gossip::{self, GossipConfig},
    model::NetworkId,
};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab},
    probe::in_netns,
    wait::{Poll, wait_for, wait_until},
};
use tokio_util::sync::CancellationToken;

/// How long a failure may take to be seen: probes, then suspicion.
const DETECTION: Duration = Duration::from_secs(30);
/// How long a join or a leave may take to be seen.
const NEWS: Duration = Duration::from_secs(10);

fn main() -> Result<()> {
    let bare = || Lab::builder().etcd(false).agents(false);
    frame::run([
        Test::new("every host lists every node with its address and version", Lab::builder(), listed),
        Test::new("a node that leaves is seen to have left, and comes back", Lab::builder(), leave),
        Test::new("a node that fails is seen down, and comes back with its endpoints", Lab::builder(), fail),
        Test::new(
            "a partitioned node keeps its traffic and comes back when it is healed",
            Lab::builder(),
            partitioned,
        ),
        Test::new("a packet that does not parse is counted and dropped", Lab::builder().hosts(2), garbage),
        Test::new(
            "a stranger who gossips as a node is refused, and confirms nothing for it",
            Lab::builder().agents(false),
            impostor,
        ),
        Test::new("one node can serve the store to the others", bare(), served),
        Test::new("one host works without etcd", bare().hosts(1), alone),
    ])
}

fn wait_state(host: &Host, node: &str, wanted: &str, limit: Duration) -> Result<()> {
    let api = host.api()?;
    wait_for(&format!("{node} to be {wanted} as {} sees it", host.name), limit, || {
        let state = api.node_state(node)?.unwrap_or_else(|| "not known".into());
        Ok(if state == wanted { Poll::Ready(()) } else { Poll::Pending(state) })
    })
}

fn listed(lab: &Lab) -> Result<()> {
    for host in &lab.hosts {
        let table = host.ovctl_ok(&["node", "ls"])?.stdout;
        for other in &lab.hosts {
            let row = table.lines().find(|line| line.split_whitespace().any(|word| word == other.name));
            let row = row.with_context(|| format!("no {} in:\n{table}", other.name))?;
            ensure!(row.contains("alive") && row.contains(&other.address_v4()), "{row}");
            ensure!(row.contains(env!("CARGO_PKG_VERSION")), "no version: {row}");
        }
    }
    Ok(())
}

fn leave(lab: &Lab) -> Result<()> {
    lab.host(3)?.stop_agent()?;
    for number in [1, 2] {
        wait_state(lab.host(number)?, "h3", "left", NEWS)?;
    }
    lab.host(3)?.start_agent()?;
    lab.host(3)?.wait_ready()?;
    lab.hosts.iter().try_for_each(|host| host.wait_nodes_alive(3))
}

fn fail(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    for host in &lab.hosts {
        host.create_sandbox(&host.own("box"), &["net"])?;
    }
    let (h1, h3) = (lab.host(1)?, lab.host(3)?);
    let address = h3.address("net", "box-h3")?;
    // The agent alone dies: its data plane is alive, and stays in use by the others.
    h3.kill9_agent();
    wait_state(h1, "h3", "down", DETECTION)?;
    h3.start_agent()?;
    h3.wait_ready()?;
    lab.hosts.iter().try_for_each(|host| host.wait_nodes_alive(3))?;
    lab.hosts.iter().try_for_each(Host::wait_in_sync)?;
    ensure!(h3.address("net", "box-h3")? == address, "its endpoint has another address");
    ensure!(h1.ping(From::Sandbox("box-h1"), &address, 3)?.none(), "its endpoint is not reached any more");
    Ok(())
}

fn partitioned(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    for host in &lab.hosts {
        host.create_sandbox(&host.own("box"), &["net"])?;
    }
    let (h1, h3) = (lab.host(1)?, lab.host(3)?);
    h3.create_sandbox("local", &["net"])?;
    let (local, remote) = (h3.address("net", "local")?, h3.address("net", "box-h3")?);
    h3.isolate()?;
    wait_state(h1, "h3", "down", DETECTION)?;
    ensure!(
        h3.ping(From::Sandbox("box-h3"), &local, 3)?.none(),
        "endpoints of one host are cut off by a partition"
    );
    lab.heal()?;
    lab.hosts.iter().try_for_each(|host| host.wait_nodes_alive(3))?;
    lab.hosts.iter().try_for_each(Host::wait_in_sync)?;
    ensure!(h1.ping(From::Sandbox("box-h1"), &remote, 3)?.none(), "it is not reached after the partition");
    Ok(())
}

fn garbage(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let counted = |host: &Host| -> Result<u64> {
        let nodes = host.api()?.nodes()?;
        let own = nodes.into_iter().find(|node| node.is_self).context("it does not list itself")?;
        let bad = own.counters.iter().filter(|(name, _value)| name.contains("malformed"));
        Ok(bad.filter_map(|(_name, value)| value.parse::<u64>().ok()).sum())
    };
    let before = counted(h1)?;
    in_netns(&h2.netns(), || {
        let socket = UdpSocket::bind("0.0.0.0:0").context("bind")?;
        for length in [0, 1, 2, 3, 4, 8, 20, 64, 512, 1400, 9000_usize] {
            for fill in [0x00_u8, 0x5a, 0xff] {
                socket.send_to(&vec![fill; length], (h1.address_v4(), 7946)).context("send")?;
            }
        }
        Ok(())
    })?;
    wait_for("the packets to be counted", NEWS, || {
        let now = counted(h1)?;
        Ok(if now >= before + 25 {
            Poll::Ready(())
        } else {
            Poll::Pending(format!("{before} before, {now} now"))
        })
    })?;
    lab.hosts.iter().try_for_each(|host| host.wait_nodes_alive(2))
}

/// h3 has no agent: somebody there has read the id of h2, and gossips as it, started later than that will ever be.
fn impostor(lab: &Lab) -> Result<()> {
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    for host in [h1, h2] {
        host.start_agent()?;
        host.wait_ready()?;
    }
    [h1, h2].iter().try_for_each(|host| host.wait_nodes_alive(2))?;
    let created = h1.ovctl_ok(&["network", "create", "-d", "overlay", "--subnet", "10.9.0.0/24", "net"])?;
    let network: NetworkId = created.stdout.trim().parse()?;
    h2.wait_network("net")?;
    h2.create_sandbox("b", &["net"])?;
    let known = h1.api()?.nodes()?.into_iter().filter_map(|node| node.node);
    let victim = known.into_iter().find(|node| node.name == "h2").context("h2 is not listed")?;
    let stop = CancellationToken::new();
    let (from, to): (SocketAddr, SocketAddr) =
        (format!("{}:7946", h3.address_v4()).parse()?, format!("{}:7946", h1.address_v4()).parse()?);
    let config = GossipConfig {
        node: victim.id.parse()?,
        name: "h2".parse()?,
        advertise: from,
        vtep: from.ip(),
        version: victim.version,
        generation: u64::MAX - 1,
        seed: 1,
    };
    std::thread::scope(|scope| {
        let (netns, end) = (h3.netns(), stop.clone());
        let lie = scope.spawn(move || {
            in_netns(&netns, move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async move {
                    let (gossip, pump) = gossip::new(tokio::net::UdpSocket::bind(from).await?, config, end);
                    gossip.applied(network, i64::MAX);
                    gossip.seed(vec![to]);
                    pump.await;
                    Ok(())
                })
            })
        });
        let seen = nobody_is_fooled(h1, h2);
        stop.cancel();
        lie.join().map_err(|_panic| anyhow::anyhow!("the stranger panicked"))??;
        seen
    })?;
    [h1, h2].iter().try_for_each(|host| host.wait_nodes_alive(2))
}

fn nobody_is_fooled(h1: &Host, h2: &Host) -> Result<()> {
    let said = || -> Result<usize> {
        let log = std::fs::read_to_string(h1.log()).context("read the log")?;
        Ok(log.matches("gossip datagrams from unknown nodes").count())
    };
    wait_until("the stranger to be refused", NEWS * 2, || Ok(said()? > 0))?;
    // Its kernel is there, its agent does not answer: nobody else may do that for it.
    h2.freeze_agent()?;
    let made = h1.ovctl(&["sandbox", "create", "--network", "net", "a"]);
    h2.thaw_agent()?;
    let made = made?.ok()?;
    ensure!(made.stderr.contains("not confirmed by: h2"), "confirmed by a stranger: {made}");
    ensure!(said()? == 1, "said {} times", said()?);
    Ok(())
}

fn served(lab: &Lab) -> Result<()> {
    let (h1, h2, h3) = (lab.host(1)?, lab.host(2)?, lab.host(3)?);
    h1.start_agent_with(&["--store", "serve"])?;
    h1.wait_ready()?;
    let store = format!("etcd://{}:2379", h1.address_v4());
    for host in [h2, h3] {
        host.start_agent_with(&["--store", &store])?;
        host.wait_ready()?;
    }
    lab.hosts.iter().try_for_each(|host| host.wait_nodes_alive(3))?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    h2.create_sandbox("b", &["net"])?;
    h3.create_sandbox("c", &["net"])?;
    let to = h3.address("net", "c")?;
    ensure!(h2.ping(From::Sandbox("b"), &to, 3)?.none(), "no way from h2 to h3");
    let endpoint = format!("http://{}:2379", h1.address_v4());
    let keys = h2
        .program("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &endpoint, "get", "--prefix", "--keys-only", "/ovnet/v1/"])
        .ok()?;
    ensure!(keys.stdout.contains("/ovnet/v1/network-names/net"), "etcdctl shows:\n{}", keys.stdout);
    Ok(())
}

fn alone(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    host.start_agent()?;
    host.wait_ready()?;
    lab.create_network(&["net"])?;
    host.create_sandbox("a", &["net"])?;
    host.create_sandbox("b", &["net"])?;
    let to = host.address("net", "b")?;
    ensure!(
        host.ping(From::Sandbox("a"), &to, 3)?.none(),
        "two sandboxes of one host do not reach each other"
    );
    host.restart_agent9()?;
    ensure!(host.address("net", "b")? == to, "a restart loses the endpoint");
    host.wait_in_sync()
}
