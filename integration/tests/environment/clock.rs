//! A host whose clock is wrong.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use ovnet_integration::{
    lab::{From, Host, Lab},
    wait::{Poll, wait_for},
};

use crate::{logged, warnings};

/// Pings, twenty in a second, that take longer than a lease of 5 s.
const LEASES: u32 = 140;

/// A library that moves a program's clock by `CLOCK_OFF` seconds: the real time alone, as a wrong clock does.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int done = syscall(SYS_clock_gettime, clock, now);
    char *off = getenv("CLOCK_OFF");
    if (done == 0 && clock == CLOCK_REALTIME && off) now->tv_sec += atol(off);
    return done;
}
"#;

fn shim(dir: &Path) -> Result<String> {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    std::fs::write(&source, SHIM).context("write the shim")?;
    let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if !cc.context("start cc (package gcc)")?.success() {
        bail!("cc does not build {}", source.display());
    }
    library.to_str().map(String::from).context("a path in UTF-8")
}

/// By how much the agent's own clock is off, going by a record that it has just made.
fn network_age(host: &Host, name: &str) -> Result<i64> {
    let created = host.api()?.network(name)?.network.context("a network")?.created_ms;
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).context("a clock")?.as_secs();
    Ok(i64::try_from(created / 1000)? - i64::try_from(now)?)
}

pub(crate) fn off(lab: &Lab) -> Result<()> {
    let (h1, h2) = (lab.host(1)?, lab.host(2)?);
    let dir = tempfile::tempdir().context("a directory")?;
    let library = shim(dir.path())?;
    lab.create_network(&["--subnet", "10.9.0.0/24", "net"])?;
    h1.create_sandbox("a", &["net"])?;
    // First ahead, then behind: the gossip of the second start is older than that of the first.
    for (turn, off) in [3600_i64, -3600].into_iter().enumerate() {
        h2.kill9_agent();
        h2.start_agent_under(&[("LD_PRELOAD", &library), ("CLOCK_OFF", &off.to_string())])?;
        h2.wait_ready()?;
        for host in [h1, h2] {
            host.wait_nodes_alive(2)?;
        }
        let own = format!("own{turn}");
        h2.ovctl_ok(&["network", "create", "-d", "overlay", &own])?;
        let seen = network_age(h2, &own)?;
        ensure!(
            (seen - off).abs() < 60,
            "its clock is off by {seen} s, not by {off} s: the test tests nothing"
        );
        let sandbox = format!("b{turn}");
        let made = h2.ovctl_ok(&["sandbox", "create", "--network", "net", &sandbox])?;
        ensure!(made.stderr.is_empty(), "{made}");
        let to = h2.address("net", &sandbox)?;
        ensure!(h1.ping(From::Sandbox("a"), &to, 2)?.none(), "{sandbox} is not reached");
        // Longer than a lease: those are the store's, by its own clock.
        ensure!(h1.ping(From::Sandbox("a"), &to, LEASES)?.none(), "{sandbox} is not reached any more");
        wait_for("both to be alive, with their leases", Duration::from_secs(5), || {
            let nodes = h1.api()?.nodes()?;
            let well = nodes.iter().filter(|node| node.state == "alive" && node.lease).count() == 2;
            Ok(if well { Poll::Ready(()) } else { Poll::Pending(format!("{nodes:?}")) })
        })?;
        ensure!(warnings(h1)?.is_empty() && warnings(h2)?.is_empty(), "there are warnings");
    }
    let wrong = [logged(h2, &["ERROR"]), logged(h1, &["ERROR"])].concat();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
