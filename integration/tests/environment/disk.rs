//! A state directory on a disk that is full.

use std::time::Duration;

use anyhow::{Result, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab},
    wait::{Poll, wait_for},
};

const SOON: Duration = Duration::from_secs(20);

/// Put the state directory on a file system of its own of this size.
fn disk(host: &Host, size: &str) -> Result<()> {
    let script = format!("mkdir -p /run/state && mount -t tmpfs -o size={size} state /run/state");
    host.exec_ok(&["sh", "-ec", &script]).map(drop)
}

/// Take every block that is left.
fn fill(host: &Host) -> Result<()> {
    let script =
        "dd if=/dev/zero of=/run/state/fill bs=4k 2>/dev/null; df --output=avail /run/state | tail -n 1";
    let left = host.exec_ok(&["sh", "-c", script])?.stdout;
    ensure!(left.trim() == "0", "{left} blocks are left");
    Ok(())
}

fn make_room(host: &Host) -> Result<()> {
    host.exec_ok(&["rm", "/run/state/fill"]).map(drop)
}

/// What the kernel and the agent have of ours.
fn traces(host: &Host) -> Result<String> {
    let script =
        "ip -o link show | grep ovnet: | sed 's/^[0-9]*: //'; ip netns list | sort; ls /run/ovnet/sandboxes";
    let kernel = host.exec_ok(&["sh", "-c", script])?.stdout;
    let lists = [["sandbox", "ls"], ["network", "ls"], ["endpoint", "ls"]];
    let lists = lists.iter().map(|list| Ok(host.ovctl_ok(list)?.stdout)).collect::<Result<Vec<_>>>()?;
    Ok(format!("{kernel}{}", lists.join("\n")))
}

pub(crate) fn full(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    disk(host, "16m")?;
    host.start_agent()?;
    host.wait_ready()?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    host.create_sandbox("a", &["net"])?;
    host.create_sandbox("b", &["net"])?;
    let to = host.address("net", "b")?;
    let before = traces(host)?;
    fill(host)?;
    // The file may have some room of its own left: go on until it is used up.
    let mut made = Vec::new();
    let refusal = loop {
        let name = format!("more{}", made.len());
        let done = host.ovctl(&["sandbox", "create", "--network", "net", &name])?;
        if !done.status.success() {
            break done;
        }
        made.push(name);
        ensure!(made.len() < 100, "the disk is never full");
    };
    eprintln!("  after {} more: {}", made.len(), refusal.stderr.trim());
    let names_it =
        |text: &str| text.contains("/run/state/store.redb") && text.contains("No space left on device");
    ensure!(refusal.code() == 1 && names_it(&refusal.stderr), "{refusal}");
    let other = host.ovctl(&["network", "create", "-d", "overlay", "other"])?;
    ensure!(other.code() == 1 && names_it(&other.stderr), "{other}");
    ensure!(host.ping(From::Sandbox("a"), &to, 3)?.none(), "traffic does not go on");
    host.ovctl_ok(&["sandbox", "inspect", "a"])?;
    make_room(host)?;
    wait_for("a sandbox on a disk with room", SOON, || {
        let done = host.ovctl(&["sandbox", "create", "--network", "net", "late"])?;
        Ok(if done.status.success() { Poll::Ready(()) } else { Poll::Pending(done.to_string()) })
    })?;
    let late = host.address("net", "late")?;
    ensure!(host.ping(From::Sandbox("a"), &late, 3)?.none(), "what was made then is not reached");
    // What could not be taken back for want of room has gone by itself.
    host.ovctl_ok(&["sandbox", "rm", "late"])?;
    for name in &made {
        host.ovctl_ok(&["sandbox", "rm", name])?;
    }
    wait_for("all traces of the refusals to go", Duration::from_secs(60), || {
        let after = traces(host)?;
        Ok(if after == before {
            Poll::Ready(())
        } else {
            Poll::Pending(format!("{before}\n-- now\n{after}"))
        })
    })?;
    host.create_sandbox("late", &["net"])?;
    let late = host.address("net", "late")?;
    host.wait_in_sync()?;
    // The file is whole.
    host.restart_agent9()?;
    ensure!(host.address("net", "late")? == late, "a restart loses it");
    host.wait_in_sync()
}

/// Start an agent that is to fail; what it said.
fn refused_start(host: &Host) -> Result<String> {
    let args: Vec<&str> = host.agent_args().iter().map(String::as_str).collect();
    let done = host.agent_program()?.args(&args).run()?;
    ensure!(done.code() == 1, "it does not end with 1: {done}");
    eprintln!("  {}", done.stderr.trim());
    Ok(done.stderr)
}

pub(crate) fn start(lab: &Lab) -> Result<()> {
    let host = lab.host(1)?;
    disk(host, "8m")?;
    // One thing after the other has its place on the disk.
    let script = |file: &str| format!(": >/run/state/{file}");
    // The store comes before the node id: a host with an id has had a store.
    for (before, file) in [("", "lock"), ("lock", "store.redb")] {
        if !before.is_empty() {
            host.exec_ok(&["sh", "-ec", &script("fill")])?;
            host.write("/run/state/lock", "1\n")?;
        }
        fill(host)?;
        let said = refused_start(host)?;
        ensure!(said.contains(&format!("/run/state/{file}")), "it does not name {file}: {said}");
        ensure!(said.contains("No space left on device"), "it does not say why: {said}");
        ensure!(!host.path("/run/state/node-id.part").exists(), "half a file stays");
        ensure!(!host.path("/run/state/node-id").exists(), "it has an id and no store");
        // Nothing was made of this host in the meantime.
        ensure!(!host.path("/run/ovnet/api.sock").exists(), "its socket is there");
    }
    make_room(host)?;
    host.start_agent()?;
    host.wait_ready()?;
    host.ovctl_ok(&["node", "ls"]).map(drop)
}
