//! The store: Debian's etcd as a process on the switch, which can be stopped, killed and started again.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    MARK, Place,
    underlay::{ROUTER_V4, ROUTER_V6},
};
use crate::{
    program::{self, Program},
    wait::{Poll, wait_for},
};

/// How long etcd may take to answer.
const START: Duration = Duration::from_secs(20);

/// An etcd server.
#[derive(Debug)]
pub struct Etcd {
    netns: String,
    mark: PathBuf,
    data: PathBuf,
    log: PathBuf,
    process: Mutex<Option<Child>>,
}

impl Etcd {
    /// Start one that keeps its data in `data`, and wait until it answers.
    pub(super) fn start(place: &Place, data: &Path) -> Result<Self> {
        let etcd = Self {
            netns: place.netns("sw"),
            mark: place.dir().to_path_buf(),
            data: data.to_path_buf(),
            log: place.dir().join("etcd.log"),
            process: Mutex::new(None),
        };
        etcd.start_again()?;
        Ok(etcd)
    }

    /// What the agents are told: `etcd://10.77.0.254:2379`.
    pub fn store(ipv6: bool) -> String {
        if ipv6 { format!("etcd://[{ROUTER_V6}]:2379") } else { format!("etcd://{ROUTER_V4}:2379") }
    }

    /// Start it (again), on the data that it had.
    ///
    /// # Errors
    /// It runs already; it does not answer in time.
    pub fn start_again(&self) -> Result<()> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if process.is_some() {
            bail!("etcd runs already");
        }
        let log = File::options().create(true).append(true).open(&self.log).context("open etcd's log")?;
        let clients = format!("http://{ROUTER_V4}:2379,http://[{ROUTER_V6}]:2379,http://127.0.0.1:2379");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.netns, "etcd", "--data-dir"])
            .arg(&self.data)
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", "http://127.0.0.1:2380", "--logger", "zap"])
            .env(MARK, &self.mark)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("etcd's log")?)
            .stderr(log)
            .spawn()
            .context("start etcd")?;
        *process = Some(child);
        drop(process);
        self.wait_answer()
    }

    fn wait_answer(&self) -> Result<()> {
        wait_for("etcd to answer", START, || {
            let done = self.etcdctl(&["endpoint", "health"])?;
            if done.status.success() {
                return Ok(Poll::Ready(()));
            }
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = process.as_mut().map(Child::try_wait).transpose().context("look at etcd")?.flatten();
            match ended {
                None => Ok(Poll::Pending(done.stderr)),
                Some(status) => {
                    let log = fs::read_to_string(&self.log).unwrap_or_default();
                    bail!("etcd ended with {status} (package etcd-server); its log:\n{log}")
                }
            }
        })
    }

    /// Run `etcdctl` (API 3) against it.
    ///
    /// # Errors
    /// It cannot be started (package etcd-client).
    pub fn etcdctl(&self, args: &[&str]) -> Result<program::Done> {
        Program::new("ip")
            .args(["netns", "exec", &self.netns, "etcdctl", "--dial-timeout=1s", "--command-timeout=2s"])
            .args(args)
            .env("ETCDCTL_API", "3")
            .run()
    }

    /// Kill it with -9; it may be started again.
    ///
    /// # Errors
    /// None so far: a process that has gone is as good.
    pub fn kill(&self) -> Result<()> {
        if let Some(mut child) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            program::end(&mut child);
        }
        Ok(())
    }

    /// Kill it with -9, and start one with an empty disk in its place; [`Etcd::restore`] undoes it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn lose(&self) -> Result<()> {
        self.kill()?;
        let kept = self.kept();
        if !kept.exists() {
            fs::rename(&self.data, &kept).with_context(|| format!("move {}", self.data.display()))?;
        }
        self.start_again()
    }

    /// Kill it with -9, and start it on the data that it had before [`Etcd::lose`].
    ///
    /// # Errors
    /// Nothing was lost; it cannot be started.
    pub fn restore(&self) -> Result<()> {
        self.kill()?;
        fs::remove_dir_all(&self.data).with_context(|| format!("remove {}", self.data.display()))?;
        fs::rename(self.kept(), &self.data).with_context(|| format!("restore {}", self.data.display()))?;
        self.start_again()
    }

    fn kept(&self) -> PathBuf {
        self.data.with_extension("kept")
    }

    /// Freeze it: connections stay, nothing answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Undo [`Etcd::freeze`].
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = process.as_ref().context("etcd does not run")?.id();
        kill(Pid::from_raw(i32::try_from(pid).context("a pid")?), signal)
            .with_context(|| format!("send {signal}"))
    }
}
