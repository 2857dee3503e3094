//! The machines that the tests share, and how far they are: bare, or with etcd and the agent.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use ovnet_integration::{
    ping::Loss,
    vm::{Cluster, Machine, Package},
};

use crate::Body;

/// For a thing that agents do by themselves, with emulated processors.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Fixture {
    cluster: OnceLock<Cluster>,
    ready: AtomicBool,
}

impl Fixture {
    /// Run a test, and have the machines tell about its failure.
    pub(crate) fn run(&self, body: Body) -> Result<(), String> {
        let start = Instant::now();
        let result = body(self);
        eprintln!("  {:.1} s", start.elapsed().as_secs_f32());
        result.map_err(|error| {
            eprintln!("  failed: {error:#}");
            let report = self.cluster.get().map(Cluster::report).unwrap_or_default();
            if let Some(cluster) = self.cluster.get() {
                // What cannot be put in order shows in the tests after it.
                on_all(cluster, put_in_order).ok();
            }
            format!("{report}\n==== failed: {error:#}")
        })
    }

    /// Machines as they come from the image.
    pub(crate) fn bare(&self) -> Result<&Cluster> {
        if let Some(cluster) = self.cluster.get() {
            return Ok(cluster);
        }
        let start = Instant::now();
        let cluster = Cluster::boot(3)?;
        eprintln!("  three machines are up after {:.1} s", start.elapsed().as_secs_f32());
        Ok(self.cluster.get_or_init(|| cluster))
    }

    /// Machines with a cluster of etcd on all three, and agents that know each other.
    pub(crate) fn ready(&self) -> Result<&Cluster> {
        let cluster = self.bare()?;
        if !self.ready.load(Ordering::Acquire) {
            let start = Instant::now();
            let package = Package::find()?;
            on_all(cluster, etcd)?;
            on_all(cluster, |host| install(host, &package))?;
            self.ready.store(true, Ordering::Release);
            all_alive(cluster)?;
            eprintln!("  etcd and agents are up after {:.1} s", start.elapsed().as_secs_f32());
        }
        Ok(cluster)
    }

    /// The package is gone: the next test has it installed again.
    pub(crate) fn not_ready(&self) {
        self.ready.store(false, Ordering::Release);
    }
}

/// Do it on all machines at once.
pub(crate) fn on_all(cluster: &Cluster, work: impl Fn(&Machine) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = cluster.machines.iter().map(|host| scope.spawn(move || work(host))).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_panic) => bail!("a thread died"),
        })
    })
}

/// After a failure: let the next test find what it would have found.
fn put_in_order(host: &Machine) -> Result<()> {
    host.power_on().and_then(|()| host.wait_up()).ok();
    let script = "systemctl stop 'traffic-*'; rm -f /fill* /etc/systemd/network/95-all.network; networkctl reload
        tc qdisc del dev eth0 root; tc qdisc del dev lo root; nft delete table inet closed
        command -v iptables && { iptables -P INPUT ACCEPT; iptables -P FORWARD ACCEPT; iptables -F; iptables -t nat -F; }
        for name in $(ovctl sandbox ls -q); do ovctl sandbox rm -f $name; done
        for name in $(ovctl network ls -q); do ovctl network rm $name; done
        ip link del eth0.20; ip link del dum0
        systemctl disable docker.service; rm -f /etc/systemd/system/docker.service /var/lib/found; systemctl daemon-reload
        systemctl start ovagent";
    host.try_run(&format!("set +e\n{script}")).map(drop)
}

/// Debian's etcd, which the image has, as a cluster.
fn etcd(host: &Machine) -> Result<()> {
    let Machine { name, address, .. } = host;
    let members = "host1=http://192.0.2.11:2380,host2=http://192.0.2.12:2380,host3=http://192.0.2.13:2380";
    host.run(&format!(
        "cat >/etc/default/etcd <<END
ETCD_NAME={name}
ETCD_LISTEN_PEER_URLS=http://{address}:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{address}:2380
ETCD_LISTEN_CLIENT_URLS=http://{address}:2379,http://127.0.0.1:2379
ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379
ETCD_INITIAL_CLUSTER={members}
ETCD_INITIAL_CLUSTER_STATE=new
# Emulated disks and processors are slow, and an election costs more than a late one.
ETCD_HEARTBEAT_INTERVAL=500
ETCD_ELECTION_TIMEOUT=5000
END
         systemctl enable --quiet --now etcd.service"
    ))
    .map(drop)
    .with_context(|| format!("etcd on {name}"))
}

fn install(host: &Machine, package: &Package) -> Result<()> {
    host.copy(&package.path, "/root/ovnet.deb")?;
    host.run(&format!(
        "install -d /etc/ovnet
         cat >/etc/ovnet/agent.toml <<END
advertise = \"{}\"
store = \"etcd://192.0.2.11:2379,192.0.2.12:2379,192.0.2.13:2379\"
END
         apt-get -qq --no-install-recommends -o Dpkg::Options::=--force-confold install /root/ovnet.deb >/dev/null",
        host.address
    ))
    .map(drop)
    .with_context(|| format!("the package on {}", host.name))
}

/// Every agent has every node alive.
pub(crate) fn all_alive(cluster: &Cluster) -> Result<()> {
    cluster.machines.iter().try_for_each(|host| alive(host, cluster.machines.len()))
}

/// This agent has so many nodes alive.
pub(crate) fn alive(host: &Machine, count: usize) -> Result<()> {
    let script = format!("ovctl node ls; test $(ovctl node ls | grep -cw alive) = {count}");
    host.wait(&format!("{count} nodes alive"), SOON, &script)
}

/// A network `net` with a sandbox `web1`, `web2` … on every host, at .11, .12 …
pub(crate) fn network(cluster: &Cluster) -> Result<()> {
    cluster.host(1)?.run("ovctl network create -d overlay --subnet 10.200.0.0/24 net")?;
    for (number, host) in (1..).zip(&cluster.machines) {
        host.run(&format!("ovctl sandbox create --network net:ip=10.200.0.{} web{number}", 10 + number))?;
    }
    everyone_reaches_everyone(cluster)
}

/// Every sandbox of [`network`] reaches every other.
pub(crate) fn everyone_reaches_everyone(cluster: &Cluster) -> Result<()> {
    for (number, host) in (1..).zip(&cluster.machines) {
        for other in 1..=cluster.machines.len() {
            let ping = format!("ip netns exec web{number} ping -c 1 -W 2 10.200.0.{}", 10 + other);
            host.wait(&format!("web{number} to reach web{other}"), SOON, &ping)?;
        }
    }
    Ok(())
}

/// Take [`network`] away.
pub(crate) fn no_network(cluster: &Cluster) -> Result<()> {
    for (number, host) in (1..).zip(&cluster.machines) {
        host.run(&format!("ovctl sandbox rm web{number}"))?;
    }
    cluster.host(1)?.run("ovctl network rm net").map(drop)
}

/// Not one packet.
pub(crate) fn none_lost(loss: Loss, what: &str) -> Result<()> {
    ensure!(loss.none(), "{what}: {} of {} packets lost", loss.lost(), loss.sent);
    Ok(())
}
