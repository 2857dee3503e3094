//! The composition root: opens every file, socket and task of the agent, and ends them in order.
//!
//! `start` builds the parts, `tasks` runs them; an early end of any of them ends the agent. Stopping touches nothing in
//! the kernel.

mod announce;
mod bridge;
mod claim;
mod cleanup;
mod fence;
mod follow;
mod health;
mod identity;
mod ids;
mod liveness;
mod lock;
mod members;
mod register;
mod server;
mod start;
mod stores;
mod tasks;
mod tunnel;

use anyhow::{Context, Result, bail};

use crate::config::Config;

/// The file in the state directory that says that the netns directory was not there before us.
const NETNS_DIR_NOTE: &str = "made-netns-dir";

/// The resolvers' copy of what they know, in the state directory.
const NAMES_FILE: &str = "names";

/// How long the end waits for threads that something keeps.
const BLOCKED: std::time::Duration = std::time::Duration::from_millis(200);

/// Bit of CAP_NET_ADMIN and of CAP_SYS_ADMIN (capability.h).
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Run the agent until it is stopped.
///
/// # Errors
/// Something that it needs is not available, or a task ended early.
pub fn run(config: Config) -> Result<()> {
    require_privilege()?;
    let runtime = runtime()?;
    let ended = runtime.block_on(start::run(config));
    // Its drop would wait for whatever a file or the kernel keeps, however long that is.
    runtime.shutdown_timeout(BLOCKED);
    ended
}

/// Remove everything of ours from this host.
///
/// # Errors
/// An agent runs with this state directory, it serves the store of a cluster (unless forced), or something could not be
/// removed.
pub fn cleanup(config: Config, force: bool) -> Result<()> {
    require_privilege()?;
    cleanup::run(config, force)
}

/// One thread for the tasks, a few short-lived ones for what blocks: an idle agent is small.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .context("cannot start the runtime")
}

/// Say at once, and in one sentence, what would otherwise fail in many places.
fn require_privilege() -> Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")
        .context("cannot read /proc/self/status: is /proc mounted?")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or_default();
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        bail!("no privilege: {} missing; run it as root, or by its systemd unit", missing.join(" and "));
    }
    Ok(())
}
