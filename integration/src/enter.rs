//! A world of our own to test in: fresh network, mount, UTS and PID namespaces, as root or through a user namespace.
//!
//! Whatever the lab makes (links, named namespaces, processes, files under `/run` and `/etc`) lives in these namespaces and is
//! gone with the process, however it ends. Three processes take part, all of them this program:
//!
//! ```text
//! outside (as it was started) -- init (pid 1: mounts, reaps) -- inside (goes on after enter())
//! ```

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, exit},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Pid, Uid},
};

use crate::etc;

/// Tells a process which of the three it is.
const STAGE: &str = "OVLAB_STAGE";
/// Directory on a real disk, made outside and removed there at the end.
const DISK: &str = "OVLAB_DISK";

/// Whether a directory on a real disk is wanted, besides the memory-backed `/run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// All in memory.
    No,
    /// [`disk()`] names a directory on the disk of the temporary directory.
    Yes,
}

/// Go into fresh namespaces. To be called first thing in `main`, before there is any thread.
///
/// Returns in the innermost process only: the others end with its exit status.
///
/// # Errors
/// No namespace can be made, with what to do about it; a mount that failed.
pub fn enter() -> Result<()> {
    enter_with(Disk::No)
}

/// [`enter`], with a directory on a real disk if it is wanted.
///
/// # Errors
/// As [`enter`]; the directory cannot be made.
pub fn enter_with(wanted: Disk) -> Result<()> {
    match env::var(STAGE).as_deref() {
        Err(_unset) => outside(wanted),
        Ok("init") => init(),
        // A started process has the signal mask of the one that started it.
        Ok(_inside) => signals().thread_unblock().context("unblock signals"),
    }
}

/// True in the process that was started from outside, before [`enter`]: the place for what needs the real machine.
pub fn is_outside() -> bool {
    env::var_os(STAGE).is_none()
}

/// The directory on a real disk, if one was asked for.
pub fn disk() -> Option<PathBuf> {
    env::var_os(DISK).map(PathBuf::from)
}

fn outside(wanted: Disk) -> Result<()> {
    // Kept here, outside of the namespaces, so that it goes even when those inside are killed.
    let disk = match wanted {
        Disk::No => None,
        Disk::Yes => Some(tempfile::Builder::new().prefix("ovlab-").tempdir().context("make a directory")?),
    };
    let signals = block_signals()?;
    separate()?;
    let mut command = again("init")?;
    if let Some(disk) = &disk {
        command.env(DISK, disk.path());
    }
    let status = supervise(command, &signals)?;
    drop(disk);
    let code = code(status);
    if code == 128 + Signal::SIGINT as i32 {
        eprintln!("\ninterrupted; the namespaces and all that was in them are gone");
    }
    exit(code)
}

fn init() -> Result<()> {
    // The other half of "nothing is left behind": without the outside process there is no init, without init no world.
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask to die with the parent")?;
    let signals = block_signals()?;
    mounts()?;
    let status =
        Command::new("ip").args(["link", "set", "lo", "up"]).status().context("run ip (package iproute2)")?;
    if !status.success() {
        bail!("cannot set lo up in the new network namespace: ip ended with {status}");
    }
    let status = supervise(again("inside")?, &signals)?;
    exit(code(status))
}

/// This program with its arguments, once more.
fn again(stage: &str) -> Result<Command> {
    let program = env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    // ip, nft, bridge and sysctl are in directories that not every user has in PATH.
    let mut path = env::var_os("PATH").unwrap_or_default();
    if stage == "init" {
        path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    }
    command.args(env::args_os().skip(1)).env(STAGE, stage).env("PATH", path);
    Ok(command)
}

/// Those that the processes around the inside one wait for.
fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGCHLD].into_iter().collect()
}

fn block_signals() -> Result<SigSet> {
    let signals = signals();
    signals.thread_block().context("block signals")?;
    Ok(signals)
}

/// Start `command`, pass signals on to it, reap every other child (pid 1 gets the orphans), and wait for its end.
fn supervise(mut command: Command, signals: &SigSet) -> Result<ExitStatus> {
    let child = command.spawn().with_context(|| format!("start {}", command.get_program().display()))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("a pid")?);
    loop {
        let signal = signals.wait().context("wait for a signal")?;
        if signal == Signal::SIGCHLD {
            if let Some(status) = reap(pid)? {
                return Ok(status);
            }
        } else if let Err(error) = kill(pid, signal)
            && error != Errno::ESRCH
        {
            return Err(anyhow!(error)).with_context(|| format!("pass {signal} on"));
        }
    }
}

fn reap(main: Pid) -> Result<Option<ExitStatus>> {
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::from_raw((code & 0xff) << 8)),
            Ok(WaitStatus::Signaled(pid, signal, _core)) => (pid, ExitStatus::from_raw(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => return Err(error).context("wait for children"),
        };
        if pid == main {
            return Ok(Some(status));
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(1))
}

fn separate() -> Result<()> {
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    let (uid, gid) = (Uid::effective(), Gid::effective());
    // Root in a container may lack the capability: it then goes the way of everyone else.
    if uid.is_root() && unshare(flags).is_ok() {
        return Ok(());
    }
    unshare(flags | CloneFlags::CLONE_NEWUSER).map_err(|error| {
        anyhow!(
            "cannot make a user namespace to test in: {error}; run as root, or allow user namespaces: \
             sysctl kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces > 0, \
             kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
        )
    })?;
    map_root(uid, gid)
}

fn map_root(uid: Uid, gid: Gid) -> Result<()> {
    let write = |file: &str, text: String| {
        let path = Path::new("/proc/self").join(file);
        fs::write(&path, &text).with_context(|| format!("write {text:?} to {}", path.display()))
    };
    // user_namespaces(7): without privilege outside, one id each, and setgroups off before gid_map.
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

fn mounts() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("make the mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none).context(
        "mount /proc for the new processes (in a container: its /proc is masked; run it privileged)",
    )?;
    mount(Some("lab"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("mount a tmpfs on /run")?;
    fs::create_dir_all("/run/netns").context("make /run/netns")?;
    fs::create_dir_all("/run/lab").context("make /run/lab")?;
    etc::replace()
}
