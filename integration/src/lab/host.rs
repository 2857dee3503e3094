//! A test host: a network namespace on the underlay, a mount namespace with a `/run` of its own (so its own `/run/netns`
//! and `/run/ovnet`), its own `/etc/hosts`, `/etc/resolv.conf` and `/etc/netns`, and a hostname. `agent` and `sandbox` have
//! what runs on it.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Mutex,
};

use anyhow::{Context, Result, bail};

use super::{Builder, Etcd, MARK, OUTSIDE_V4, Place, underlay};
use crate::program::{self, Done, Program};

/// A host of the lab.
#[derive(Debug)]
pub struct Host {
    /// `h1`, `h2` …: also its hostname, and so its node's name.
    pub name: String,
    pub(super) number: u8,
    pub(super) mark: PathBuf,
    pub(super) dir: PathBuf,
    pub(super) state: PathBuf,
    pub(super) agent: Mutex<Option<Child>>,
    /// What the agent is started with.
    pub(super) args: Vec<String>,
    /// Keeps the namespaces: a process that does nothing.
    keeper: Child,
}

impl Host {
    pub(super) fn new(place: &Place, number: u8, builder: &Builder) -> Result<Self> {
        let name = format!("h{number}");
        let dir = place.dir().join(&name);
        fs::create_dir_all(dir.join("run")).with_context(|| format!("make {}", dir.display()))?;
        files(&dir, &name)?;
        // In memory the state is in the host's own /run, else where the disk is; both are paths that the host sees.
        let state = match &builder.disk {
            Some(disk) => disk.join(&name),
            None => PathBuf::from("/run/state"),
        };
        let keeper = keeper(place, &name, &dir)?;
        let advertise =
            if builder.ipv6_underlay { underlay::address_v6(number) } else { underlay::address_v4(number) };
        let mut args =
            vec!["--advertise".into(), advertise, "--state-dir".into(), state.to_string_lossy().into_owned()];
        if builder.etcd {
            args.extend(["--store".into(), Etcd::store(builder.ipv6_underlay)]);
        }
        args.extend(builder.agent_args.iter().cloned());
        let mark = place.dir().to_path_buf();
        Ok(Self { name, number, mark, dir, state, agent: Mutex::new(None), args, keeper })
    }

    /// Its address on the underlay.
    pub fn address_v4(&self) -> String {
        underlay::address_v4(self.number)
    }

    /// Its IPv6 address on the underlay.
    pub fn address_v6(&self) -> String {
        underlay::address_v6(self.number)
    }

    /// A program that runs on this host: in its network, mounts and hostname.
    pub fn program(&self, name: impl AsRef<std::ffi::OsStr>) -> Program {
        Program::new("nsenter")
            .args(["--target", &self.keeper.id().to_string(), "--net", "--mount", "--uts", "--"])
            .args([name])
            .env(MARK, &self.mark)
    }

    /// Run a command on this host to its end, whatever its exit status.
    ///
    /// # Errors
    /// There is no command; it does not start or does not end in time.
    pub fn exec(&self, command: &[&str]) -> Result<Done> {
        let (name, args) = command.split_first().context("an empty command")?;
        self.program(name).args(args).run()
    }

    /// [`Host::exec`], and an exit status other than 0 is an error.
    ///
    /// # Errors
    /// As [`Host::exec`]; it failed.
    pub fn exec_ok(&self, command: &[&str]) -> Result<Done> {
        self.exec(command)?.ok().with_context(|| format!("on {}", self.name))
    }

    /// The agent's state directory, as the host sees it.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// The agent's socket, as the lab sees it. On the host it is `/run/ovnet/api.sock`.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("run/ovnet/api.sock")
    }

    /// A file or namespace of this host, as the lab can open it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.keeper.id()))
    }

    /// Write one of the host's files.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        fs::write(self.path(path), text).with_context(|| format!("write {path} on {}", self.name))
    }

    /// Read one of the host's files.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.path(path)).with_context(|| format!("read {path} on {}", self.name))
    }

    /// The host's network namespace, to be entered by a thread.
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.keeper.id()))
    }

    pub(super) fn end(&mut self) {
        let agent = self.agent.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(mut agent) = agent.take() {
            program::end(&mut agent);
        }
        program::end(&mut self.keeper);
    }
}

/// What the host has in `/etc` for itself. Its resolver is the host outside, where nobody answers unless a test says so.
fn files(dir: &Path, name: &str) -> Result<()> {
    let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {name}\n");
    let resolver = format!("nameserver {OUTSIDE_V4}\n");
    for (file, text) in [("hosts", hosts), ("resolv.conf", resolver), ("hostname", format!("{name}\n"))] {
        let path = dir.join(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Start the process that keeps the host's namespaces, and wait until they are as they should be.
fn keeper(place: &Place, name: &str, dir: &Path) -> Result<Child> {
    let dir = dir.display();
    // The files first: their directory is out of sight when the host has its own /run.
    let script = format!(
        "hostname {name} && mount -t tmpfs lab /etc/netns && \
         for f in hosts resolv.conf hostname; do mount --bind {dir}/$f /etc/$f || exit 1; done && \
         mount --bind {dir}/run /run && mount -t sysfs sysfs /sys && echo ready && exec sleep infinity"
    );
    let netns = format!("--net=/run/netns/{}", place.netns(name));
    let mut command = Program::new("nsenter")
        .args([&netns, "unshare", "--mount", "--uts", "sh", "-c", &script])
        .env(MARK, place.dir())
        .into_command();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start the keeper of {name}"))?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("the keeper's output")?;
    BufReader::new(stdout).read_line(&mut line).context("read from the keeper")?;
    if line.trim() != "ready" {
        let done = child.wait_with_output().context("wait for the keeper")?;
        bail!("cannot make host {name}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(child)
}
