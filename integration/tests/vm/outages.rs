//! Hosts that go and come back.

use anyhow::{Result, ensure};
use ovnet_integration::vm::{Machine, Traffic};

use crate::fixture::{self, Fixture, SOON};

/// A stand-in for what starts containers, under a name that the agent's unit is ordered before. It notes what it finds
/// when it is started.
const CONTAINERS: &str = "cat >/etc/systemd/system/docker.service <<'END'
[Service]
Type=oneshot
ExecStart=sh -c '{ ip -n web1 -br address; ip netns exec web1 ping -c 1 -W 5 10.200.0.12; } >/var/lib/found 2>&1'
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl --quiet enable docker.service";

/// What a reboot must not change: networks, sandboxes, and the addresses of host1's sandbox.
const STATE: &str = "ovctl network ls | sort; ovctl sandbox ls; ip -n web1 -o address show scope global | awk '{ print $2, $4 }' | sort
ip netns exec web1 sh -c 'cat /sys/class/net/eth*/address'; ip -n web1 route; ip netns exec web1 cat /etc/hosts /etc/resolv.conf";

pub(crate) fn reboot(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    fixture::network(cluster)?;
    let host = cluster.host(1)?;
    host.run("ovctl network create -d bridge --subnet 10.201.0.0/24 own; ovctl network connect own web1")?;
    let before = host.run(STATE)?;
    host.run(CONTAINERS)?;
    let between = Traffic::start(cluster.host(2)?, "web2", "10.200.0.13")?;
    let took = host.reboot()?;
    eprintln!("  rebooted in {:.1} s", took.as_secs_f32());
    host.wait("what is ordered after the agent to be started", SOON, "test -s /var/lib/found")?;
    host.wait(
        "its end",
        SOON,
        "state=$(systemctl is-active docker || true); echo $state; test $state != activating",
    )?;
    let found = host.run("cat /var/lib/found")?;
    ensure!(
        found.contains("10.200.0.11/24") && found.contains("10.201.0.") && found.contains(" 0% packet loss"),
        "it found: {found}"
    );
    let after = host.run(STATE)?;
    ensure!(before == after, "it was:\n{before}\nand is after the boot:\n{after}");
    fixture::all_alive(cluster)?;
    fixture::everyone_reaches_everyone(cluster)?;
    fixture::none_lost(between.stop()?, "web2 to web3 meanwhile")?;
    ensure!(host.run("ovctl diff")?.is_empty(), "host1 is not as it should be");
    host.run("systemctl --quiet disable docker.service; rm /etc/systemd/system/docker.service /var/lib/found; systemctl daemon-reload")?;
    after_boot(host)?;
    host.run("ovctl network disconnect own web1; ovctl network rm own")?;
    fixture::no_network(cluster)
}

/// No unit of the boot failed, and none but etcd's clients complained.
fn after_boot(host: &Machine) -> Result<()> {
    let failed = host.run("systemctl --failed --no-legend --plain")?;
    ensure!(failed.is_empty(), "failed units: {failed}");
    let loud =
        host.run("journalctl -q -b -p warning -u ovagent -o cat --no-pager | grep -v store || true")?;
    ensure!(loud.is_empty(), "warnings at boot: {loud}");
    Ok(())
}

pub(crate) fn power(fixture: &Fixture) -> Result<()> {
    let cluster = fixture.ready()?;
    fixture::network(cluster)?;
    let (host, gone) = (cluster.host(1)?, cluster.host(3)?);
    let between = Traffic::start(host, "web1", "10.200.0.12")?;
    gone.power_off();
    host.wait("host3 to be down", SOON, "ovctl node ls; ovctl node ls | grep host3 | grep -w down")?;
    // Changes go on without it: etcd has two of three.
    host.run("ovctl sandbox create --network net meanwhile && ovctl sandbox rm meanwhile")?;
    gone.power_on()?;
    let took = gone.wait_up()?;
    eprintln!("  up again in {:.1} s", took.as_secs_f32());
    fixture::all_alive(cluster)?;
    fixture::everyone_reaches_everyone(cluster)?;
    fixture::none_lost(between.stop()?, "web1 to web2 meanwhile")?;
    fixture::no_network(cluster)
}
