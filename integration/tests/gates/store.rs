//! `store = "serve"`: who gets an answer, and of what.

use anyhow::{Result, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab},
    program::Done,
};

fn etcdctl(host: &Host, from: From<'_>, address: &str, args: &[&str]) -> Result<Done> {
    let endpoint = format!("http://{address}:2379");
    let program = match from {
        From::Host => host.program("etcdctl"),
        From::Sandbox(sandbox) => host.sandbox_program(sandbox, "etcdctl"),
    };
    let quick = ["--endpoints", &endpoint, "--dial-timeout=1s", "--command-timeout=1s"];
    program.env("ETCDCTL_API", "3").args(quick).args(args).run()
}

pub(super) fn served(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    h1.start_agent_with(&["--store", "serve"])?;
    h1.wait_ready()?;
    let vtep = h1.address_v4();
    h2.start_agent_with(&["--store", &format!("etcd://{vtep}:2379")])?;
    h2.wait_ready()?;
    h1.wait_nodes_alive(2)?;
    h1.ovctl_ok(&["network", "create", "-d", "overlay", "--subnet", "10.9.0.0/24", "wide"])?;
    let names = [(h1, ["a1", "b1"]), (h2, ["a2", "b2"])];
    for (host, [a, b]) in names {
        host.create_sandbox(a, &["wide"])?;
        host.create_sandbox(b, &["bridge"])?;
    }
    // At one address, and only for hosts.
    let listening = h1.exec_ok(&["ss", "-Hltn", "sport", "=", ":2379"])?;
    let at: Vec<&str> = listening.stdout.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    ensure!(at == [format!("{vtep}:2379")], "the store listens at {at:?}");
    ensure!(
        etcdctl(h2, From::Host, &vtep, &["endpoint", "health"])?.status.success(),
        "hosts need the store"
    );
    for (host, names) in names {
        for sandbox in names {
            for to in [vtep.as_str(), "172.17.0.1", "10.9.0.1"] {
                let done = etcdctl(host, From::Sandbox(sandbox), to, &["get", "--prefix", "/ovnet"])?;
                ensure!(!done.status.success(), "{sandbox} of {} reads the store at {to}: {done}", host.name);
            }
        }
    }
    // What is of the serving host alone stays there.
    let read = etcdctl(h2, From::Host, &vtep, &["get", "", "--prefix", "--keys-only"])?.ok()?;
    ensure!(read.stdout.contains("/ovnet/v1/network-names/wide"), "what is shared is served: {read}");
    ensure!(!read.stdout.contains("/ovnet/local/"), "another host reads {read}");
    for change in [
        &["put", "/ovnet/local/v1/sysctls/kernel.core_pattern", "|/tmp/x"][..],
        &["del", "--prefix", "/ovnet"],
        &["del", "--prefix", "/ovnet/local/"],
    ] {
        let done = etcdctl(h2, From::Host, &vtep, change)?;
        ensure!(!done.status.success() && done.stderr.contains("permission denied"), "{change:?}: {done}");
    }
    h1.wait_in_sync()
}
