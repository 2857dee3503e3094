//! A lab: hosts, an underlay between them, etcd, and a host outside. It goes when it is dropped.
//!
//! ```text
//!   lab<k>-h1                lab<k>-h2                lab<k>-h3          network namespaces; each host also has its own
//!  +-----------+            +-----------+            +-----------+       mount namespace (its own /run)
//!  | ovagent   |            | ovagent   |            | ovagent   |       and hostname (h1, h2 ...)
//!  | eth0      |            | eth0      |            | eth0      |       10.77.0.<n>/24, fd77::<n>/64
//!  +----||-----+            +----||-----+            +----||-----+
//!  =====||=======================||=======================||=========   veth pairs
//!       h1                       h2                       h3
//!  +----------------------------- br0 -------------------------------+
//!  | lab<k>-sw: the switch and router; etcd on 10.77.0.254:2379      |
//!  +----------------------------- out -------------------------------+
//!                                 ||    198.51.100.0/24, 2001:db8:51::/64 (.1, ::1 the router; .2, ::2 outside)
//!                            lab<k>-out: knows the way to the underlay and nothing of any overlay
//! ```
//!
//! With [`Builder::lan`] hosts have an `eth1` on a second switch, 203.0.113.0/24 and 2001:db8:71::/64, which the router is on
//! as well: whatever takes an address there is reached from outside.
//!
//! Several labs may stand at once; `<k>` tells them apart, and their addresses do not meet.

mod agent;
mod etcd;
mod fault;
mod host;
mod network;
mod outside;
mod report;
mod sandbox;
mod service;
mod snapshot;
mod underlay;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub use etcd::Etcd;
pub use host::Host;
pub use outside::{OUTSIDE_V4, OUTSIDE_V6, Outside};
pub use sandbox::From;
pub use service::{Service, dnsmasq_args};
pub use snapshot::KernelState;
pub use underlay::{LAN_ROUTER_V4, LAN_ROUTER_V6};

use crate::{
    program::{Done, Program},
    wait::wait_until,
};

/// Environment variable that marks every process of a lab with the lab's directory.
pub(crate) const MARK: &str = "OVLAB";
/// Most hosts that a lab may have: the addresses are `.1` to `.200`.
const MOST_HOSTS: u8 = 200;

/// What lab to build.
#[derive(Clone, Debug)]
pub struct Builder {
    hosts: u8,
    mtu: u32,
    ipv6_underlay: bool,
    etcd: bool,
    agents: bool,
    lan: bool,
    agent_args: Vec<String>,
    disk: Option<PathBuf>,
}

/// A lab that stands.
#[derive(Debug)]
pub struct Lab {
    /// The hosts, `h1` first.
    pub hosts: Vec<Host>,
    /// The store, if there is one.
    pub etcd: Option<Etcd>,
    /// The host beyond the router.
    pub outside: Outside,
    place: Place,
}

/// A lab's number and directory.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    number: u32,
    dir: PathBuf,
}

impl Place {
    fn take() -> Result<Self> {
        for number in 0..1000 {
            let dir = PathBuf::from(format!("/run/lab/{number}"));
            match fs::create_dir(&dir) {
                Ok(()) => return Ok(Self { number, dir }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    bail!("there is no /run/lab: call enter() first thing in main")
                }
                Err(error) => return Err(error).with_context(|| format!("make {}", dir.display())),
            }
        }
        bail!("1000 labs stand already in /run/lab")
    }

    /// The name of one of the lab's namespaces.
    pub(crate) fn netns(&self, role: &str) -> String {
        format!("lab{}-{role}", self.number)
    }

    /// The lab's directory, in memory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            hosts: 3,
            mtu: 1500,
            ipv6_underlay: false,
            etcd: true,
            agents: true,
            lan: false,
            agent_args: Vec::new(),
            disk: None,
        }
    }
}

impl Builder {
    /// How many hosts; 3 unless told otherwise.
    #[must_use]
    pub fn hosts(mut self, hosts: u8) -> Self {
        self.hosts = hosts;
        self
    }

    /// The underlay's MTU in bytes; 1500 unless told otherwise.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }

    /// Agents advertise their IPv6 address, and etcd is reached by IPv6.
    #[must_use]
    pub fn ipv6_underlay(mut self, yes: bool) -> Self {
        self.ipv6_underlay = yes;
        self
    }

    /// Whether there is an etcd; without it agents are started without `--store`.
    #[must_use]
    pub fn etcd(mut self, yes: bool) -> Self {
        self.etcd = yes;
        self
    }

    /// Whether the agents are started and waited for; yes unless told otherwise.
    #[must_use]
    pub fn agents(mut self, yes: bool) -> Self {
        self.agents = yes;
        self
    }

    /// Hosts also have `eth1`, on a switch that the outside routes to.
    #[must_use]
    pub fn lan(mut self, yes: bool) -> Self {
        self.lan = yes;
        self
    }

    /// What every agent is started with, besides the lab's own arguments.
    #[must_use]
    pub fn agent_args(mut self, args: &[&str]) -> Self {
        self.agent_args = args.iter().map(ToString::to_string).collect();
        self
    }

    /// Where etcd and the agents keep their state, for figures that depend on a disk; in memory unless given.
    #[must_use]
    pub fn disk(mut self, dir: Option<PathBuf>) -> Self {
        self.disk = dir;
        self
    }

    /// Build it.
    ///
    /// # Errors
    /// A program is missing, the kernel refuses, an agent or etcd does not come up. What was built goes again.
    pub fn build(self) -> Result<Lab> {
        if self.hosts == 0 || self.hosts > MOST_HOSTS {
            bail!("a lab has 1 to {MOST_HOSTS} hosts, not {}", self.hosts);
        }
        let place = Place::take()?;
        let mut lab = Lab { hosts: Vec::new(), etcd: None, outside: Outside::new(&place), place };
        underlay::build(&lab.place, self.hosts, self.mtu)?;
        if self.lan {
            underlay::build_lan(&lab.place, self.hosts)?;
        }
        let state = self.disk.clone().unwrap_or_else(|| lab.place.dir.clone());
        if self.etcd {
            lab.etcd = Some(Etcd::start(&lab.place, &state.join("etcd"))?);
        }
        for number in 1..=self.hosts {
            let host = Host::new(&lab.place, number, &self)?;
            lab.hosts.push(host);
        }
        if self.agents {
            lab.start_agents()?;
        }
        Ok(lab)
    }
}

impl Lab {
    /// Three hosts, MTU 1500, etcd, agents started: change what should be otherwise, then [`Builder::build`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Host number `n`, from 1 on.
    ///
    /// # Errors
    /// The lab has no such host.
    pub fn host(&self, n: usize) -> Result<&Host> {
        n.checked_sub(1)
            .and_then(|index| self.hosts.get(index))
            .with_context(|| format!("the lab has hosts 1 to {}, not {n}", self.hosts.len()))
    }

    /// The store.
    ///
    /// # Errors
    /// The lab was built without one.
    pub fn etcd(&self) -> Result<&Etcd> {
        self.etcd.as_ref().context("this lab has no etcd")
    }

    /// Run a command on the switch, which is the router too.
    ///
    /// # Errors
    /// It fails.
    pub fn switch_ok(&self, command: &[&str]) -> Result<Done> {
        Program::new("ip").args(["netns", "exec", &self.place.netns("sw")]).args(command).ok()
    }

    /// Start every agent that does not run, and wait until each is ready and knows all the others.
    ///
    /// # Errors
    /// An agent does not come up in time.
    pub fn start_agents(&self) -> Result<()> {
        for host in &self.hosts {
            host.start_agent()?;
        }
        for host in &self.hosts {
            host.wait_ready()?;
        }
        if self.etcd.is_some() {
            for host in &self.hosts {
                host.wait_nodes_alive(self.hosts.len())?;
            }
        }
        Ok(())
    }

    fn tear_down(&mut self) -> Result<()> {
        for host in &mut self.hosts {
            host.end();
        }
        if let Some(etcd) = &self.etcd {
            etcd.kill()?;
        }
        // What sandboxes and `run -d` left in the background: found by the mark in its environment.
        let mark = format!("{MARK}={}", self.place.dir.display());
        wait_until("the end of the lab's processes", Duration::from_secs(10), || {
            Ok(kill_marked(&mark)? == 0)
        })?;
        underlay::remove(&self.place)?;
        fs::remove_dir_all(&self.place.dir).with_context(|| format!("remove {}", self.place.dir.display()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            eprintln!("lab {}: not all went away (it goes with this process): {error:#}", self.place.number);
        }
    }
}

/// Kill every process that has `mark` in its environment; how many there were.
fn kill_marked(mark: &str) -> Result<usize> {
    let mut killed = 0;
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let entry = entry.context("list /proc")?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process that has just ended has no environment; so has a zombie.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) => killed += 1,
                Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("kill process {pid}")),
            }
        }
    }
    Ok(killed)
}
