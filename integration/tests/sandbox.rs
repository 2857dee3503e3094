//! Sandboxes: ours and adopted ones, with several networks, and processes that run in them.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use ovnet_integration::{
    frame::{self, Test},
    lab::{From, Host, Lab},
    wait::wait_until,
};

fn main() -> Result<()> {
    let one = || Lab::builder().hosts(1);
    frame::run([
        Test::new("a sandbox of ours is a named namespace", one(), named),
        Test::new("a namespace is adopted by its path and left as it was", one(), by_path),
        Test::new("a process's namespace is adopted by its pid", one(), by_pid),
        Test::new("a sandbox whose process has gone says so and can be removed", one(), gone),
        Test::new("networks come and go while a process runs", Lab::builder().hosts(2), hot_plug),
        Test::new("run gives a process its own hostname, hosts and resolv.conf", one(), run),
        Test::new("run and exec exit with the status of their command", one(), run_status),
        Test::new("a sandbox and its process outlive the agent", one(), outlive),
    ])
}

fn network(lab: &Lab) -> Result<()> {
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"]).map(|_id| ())
}

/// A partner for pings.
fn partner(host: &Host) -> Result<String> {
    host.create_sandbox("partner", &["net"])?;
    host.address("net", "partner")
}

fn named(lab: &Lab) -> Result<()> {
    network(lab)?;
    let host = lab.host(1)?;
    let partner = partner(host)?;
    let printed = host.ovctl_ok(&["sandbox", "create", "--network", "net:ip=10.9.0.42", "box"])?;
    ensure!(printed.text() == "box", "{printed}");
    ensure!(host.netns_names()?.contains(&"box".into()), "ip netns does not list it");
    let addresses =
        host.exec_ok(&["ip", "netns", "exec", "box", "ip", "-o", "-4", "address", "show", "eth0"])?;
    ensure!(addresses.stdout.contains("10.9.0.42/24"), "{addresses}");
    ensure!(host.ping(From::Sandbox("box"), &partner, 2)?.none(), "it reaches nobody");
    let list = host.ovctl_ok(&["sandbox", "ls"])?.stdout;
    ensure!(list.lines().any(|line| line.contains("box") && line.contains("10.9.0.42")), "{list}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "box"])?;
    ensure!(!host.netns_names()?.contains(&"box".into()), "the namespace stays");
    ensure!(host.api()?.network("net")?.endpoints.len() == 1, "the endpoint stays");
    Ok(())
}

fn by_path(lab: &Lab) -> Result<()> {
    network(lab)?;
    let host = lab.host(1)?;
    let partner = partner(host)?;
    host.exec_ok(&["ip", "netns", "add", "theirs"])?;
    host.ns_exec_ok("theirs", &["ip", "link", "add", "theirs0", "type", "bridge"])?;
    let before = host.netns_state("theirs")?;
    host.ovctl_ok(&["sandbox", "create", "--netns", "/run/netns/theirs", "--network", "net", "box"])?;
    ensure!(host.ping(From::Sandbox("theirs"), &partner, 2)?.none(), "it reaches nobody");
    host.ovctl_ok(&["sandbox", "rm", "-f", "box"])?;
    ensure!(host.netns_names()?.contains(&"theirs".into()), "an adopted namespace is removed");
    let changes = before.changes(&host.netns_state("theirs")?);
    // Links that were never up have no addresses of their own; lo alone may have been set up.
    let foreign: Vec<&str> = changes
        .lines()
        .filter(|line| !line.contains("lo") && !line.contains("127.0.0") && !line.contains("::1"))
        .collect();
    ensure!(foreign.is_empty(), "it is not as it was:\n{changes}");
    Ok(())
}

/// A process on the host in a network namespace of its own; its pid.
fn process(host: &Host) -> Result<String> {
    let script = "unshare --net sh -c 'ip link set lo up; exec sleep infinity' >/dev/null 2>&1 & echo $!";
    let pid = host.exec_ok(&["sh", "-c", script])?.text().to_string();
    let own = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).context("read its namespace");
    let init = fs::read_link(host.netns()).context("read the host's namespace")?;
    wait_until("the process to be in its namespace", Duration::from_secs(5), || Ok(own(&pid)? != init))?;
    Ok(pid)
}

fn by_pid(lab: &Lab) -> Result<()> {
    network(lab)?;
    let host = lab.host(1)?;
    let partner = partner(host)?;
    let pid = process(host)?;
    host.ovctl_ok(&["sandbox", "create", "--pid", &pid, "--network", "net", "box"])?;
    let ping =
        host.exec_ok(&["nsenter", "--target", &pid, "--net", "ping", "-n", "-c", "2", "-W", "1", &partner])?;
    ensure!(ping.stdout.contains(" 0% packet loss"), "{ping}");
    let address = host.address("net", "box")?;
    ensure!(host.ping(From::Host, &address, 2)?.none(), "the host does not reach it");
    host.ovctl_ok(&["sandbox", "rm", "-f", "box"])?;
    let links = host.exec_ok(&["nsenter", "--target", &pid, "--net", "ip", "-o", "link"])?;
    ensure!(!links.stdout.contains("eth0"), "the endpoint stays: {}", links.stdout);
    Ok(())
}

fn gone(lab: &Lab) -> Result<()> {
    network(lab)?;
    lab.create_network(&["--subnet", "10.8.0.0/24", "other"])?;
    let host = lab.host(1)?;
    // One that was adopted from a process goes with it.
    let pid = process(host)?;
    host.ovctl_ok(&["sandbox", "create", "--pid", &pid, "--network", "net", "job"])?;
    host.exec_ok(&["kill", "-9", &pid])?;
    wait_until("the sandbox to go with its process", Duration::from_secs(10), || {
        Ok(!host.ovctl_ok(&["sandbox", "ls"])?.stdout.contains("job"))
    })?;
    ensure!(host.api()?.network("net")?.endpoints.is_empty(), "its endpoint stays");
    // One that was adopted by path waits for whoever made it.
    host.exec_ok(&["ip", "netns", "add", "theirs"])?;
    host.ovctl_ok(&["sandbox", "create", "--netns", "/run/netns/theirs", "--network", "net", "box"])?;
    host.exec_ok(&["ip", "netns", "del", "theirs"])?;
    wait_until("the sandbox to be gone", Duration::from_secs(10), || {
        let listed = host.ovctl_ok(&["sandbox", "ls"])?.stdout;
        Ok(listed.lines().any(|line| line.contains("box") && line.contains("gone")))
    })?;
    let refused = host.ovctl(&["network", "connect", "other", "box"])?;
    ensure!(refused.code() == 1 && refused.stderr.contains("box"), "{refused}");
    host.ovctl_ok(&["sandbox", "rm", "-f", "box"])?;
    ensure!(host.api()?.network("net")?.endpoints.is_empty(), "its endpoint stays");
    host.wait_in_sync()
}

fn hot_plug(lab: &Lab) -> Result<()> {
    network(lab)?;
    lab.create_network(&["--subnet", "10.8.0.0/24", "other"])?;
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.create_sandbox("box", &["net"])?;
    h2.create_sandbox("on-net", &["net"])?;
    h2.create_sandbox("on-other", &["other"])?;
    let (first, second) = (h2.address("net", "on-net")?, h2.address("other", "on-other")?);
    let mut running = h1.ping_background(From::Sandbox("box"), &first)?;
    running.wait_answers(10)?;
    for _round in 0..3 {
        h1.ovctl_ok(&["network", "connect", "other", "box"])?;
        ensure!(h1.ping(From::Sandbox("box"), &second, 2)?.none(), "the second network is not reached");
        h1.ovctl_ok(&["network", "disconnect", "other", "box"])?;
        ensure!(h1.ping(From::Sandbox("box"), &second, 1)?.all(), "the second network is still reached");
    }
    running.wait_answers(10)?;
    let loss = running.stop()?;
    ensure!(loss.none(), "the first network lost packets: {loss:?}");
    Ok(())
}

fn run(lab: &Lab) -> Result<()> {
    network(lab)?;
    let host = lab.host(1)?;
    let partner = partner(host)?;
    let outer = (host.exec_ok(&["cat", "/etc/hosts"])?.stdout, host.exec_ok(&["hostname"])?.stdout);
    let command = ["run", "--name", "web", "--network", "net:ip=10.9.0.42", "-d", "--", "sleep", "infinity"];
    ensure!(host.ovctl_ok(&command)?.text() == "web", "run -d does not print the name");
    let inside = |script: &str| host.ovctl_ok(&["exec", "web", "--", "sh", "-c", script]);
    ensure!(inside("hostname")?.text() == "web", "the hostname");
    let hosts = inside("cat /etc/hosts")?.stdout;
    ensure!(
        hosts.lines().any(|line| line.contains("10.9.0.42") && line.contains("web")),
        "/etc/hosts:\n{hosts}"
    );
    ensure!(inside("cat /etc/resolv.conf")?.status.success(), "no resolv.conf");
    ensure!(inside(&format!("ping -n -c 1 -W 1 {partner}"))?.status.success(), "it reaches nobody");
    ensure!(inside("ls /sys/class/net")?.text().contains("eth0"), "/sys is of another namespace");
    host.ns_exec_ok("web", &["true"])?;
    let after = (host.exec_ok(&["cat", "/etc/hosts"])?.stdout, host.exec_ok(&["hostname"])?.stdout);
    ensure!(outer == after, "the host's own files have changed");
    host.ovctl_ok(&["sandbox", "rm", "-f", "web"]).map(|_done| ())
}

fn run_status(lab: &Lab) -> Result<()> {
    network(lab)?;
    let host = lab.host(1)?;
    let run = |command: &[&str]| {
        let mut args = vec!["run", "--rm", "--name", "job", "--network", "net", "--"];
        args.extend_from_slice(command);
        host.ovctl(&args)
    };
    for (command, status) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["/nowhere/program"], 127),
        (&["/etc/hosts"], 126),
    ] {
        let done = run(command)?;
        ensure!(done.code() == status, "{status} is right: {done}");
        ensure!(!host.netns_names()?.contains(&"job".into()), "the sandbox stays after {command:?}");
    }
    let said = run(&["echo", "word"])?;
    ensure!(said.stdout == "word\n", "{said}");
    host.create_sandbox("box", &[])?;
    ensure!(host.ovctl(&["exec", "box", "--", "sh", "-c", "exit 9"])?.code() == 9, "exec");
    ensure!(host.ovctl(&["exec", "nobody", "--", "true"])?.code() == 1, "exec in an unknown sandbox");
    Ok(())
}

fn outlive(lab: &Lab) -> Result<()> {
    network(lab)?;
    let host = lab.host(1)?;
    let partner = partner(host)?;
    host.ovctl_ok(&["run", "--name", "web", "--network", "net", "-d", "--", "sleep", "infinity"])?;
    host.restart_agent9()?;
    ensure!(host.ping(From::Sandbox("web"), &partner, 2)?.none(), "it reaches nobody");
    let seen = host.ovctl_ok(&["exec", "web", "--", "ps", "-e"])?.stdout;
    ensure!(seen.contains("sleep"), "its process is gone:\n{seen}");
    Ok(())
}
