//! The machine of a kernel in memory: it has the processes and listeners that it was given, and nothing of the one that it runs on.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::{Inner, MemoryKernel, named};
use crate::{
    kernel::{
        Machine,
        port::{Holder, Listeners},
    },
    model::Protocol,
    plan::state::Netns,
};

/// Where the host's own namespace is.
const OWN_NETNS: &str = "/proc/self/ns/net";

/// What the machine has.
#[derive(Default)]
pub(super) struct Things {
    processes: BTreeMap<u32, Process>,
    /// How many processes were started: the next one starts later than all before.
    started: u64,
    listening: Vec<Listening>,
    listeners_fail: bool,
    listeners_read: u64,
}

struct Process {
    start: u64,
    netns: Netns,
}

struct Listening {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    holder: String,
}

impl MemoryKernel {
    /// Start a process in a namespace, which is made if it is not there; its start time.
    pub fn start_process(&self, pid: u32, netns: Netns) -> u64 {
        let mut inner = self.lock();
        inner.world.state.netns.entry(netns.clone()).or_default();
        inner.things.started += 1;
        let start = inner.things.started;
        inner.things.processes.insert(pid, Process { start, netns });
        start
    }

    /// End a process. A namespace without a name goes with the last process in it.
    pub fn end_process(&self, pid: u32) {
        let mut inner = self.lock();
        let Some(Process { netns, .. }) = inner.things.processes.remove(&pid) else { return };
        let lives = inner.things.processes.values().any(|other| other.netns == netns);
        if matches!(netns, Netns::Path(_)) && !lives {
            inner.world.state.netns.remove(&netns);
            inner.world.inodes.remove(&netns);
        }
    }

    /// From now on `holder`, such as "dnsmasq (pid 77)", waits for clients at this address and port of the host.
    pub fn listen(&self, protocol: Protocol, address: IpAddr, port: u16, holder: &str) {
        let listening = Listening { protocol, address, port, holder: holder.to_owned() };
        self.lock().things.listening.push(listening);
    }

    /// From now on it cannot be read who waits for clients.
    pub fn fail_listeners(&self) {
        self.lock().things.listeners_fail = true;
    }

    /// How often it was read so far who waits for clients, those times included that failed.
    pub fn listeners_read(&self) -> u64 {
        self.lock().things.listeners_read
    }
}

impl Inner {
    /// The namespace at a path: that of a process, one with a name, or another one.
    pub(super) fn netns_at(&self, path: &Path) -> Netns {
        if path == Path::new(OWN_NETNS) {
            return Netns::Host;
        }
        let pid = path.to_str().and_then(|path| path.strip_prefix("/proc/")?.strip_suffix("/ns/net"));
        match pid.and_then(|pid| self.things.processes.get(&pid.parse().ok()?)) {
            Some(process) => process.netns.clone(),
            None => named(&Netns::Path(path.into())),
        }
    }

    pub(super) fn inode_at(&mut self, path: &Path) -> Option<u64> {
        let netns = self.netns_at(path);
        self.world.inode(&netns)
    }
}

impl Machine for MemoryKernel {
    fn start_time(&self, pid: u32) -> io::Result<Option<u64>> {
        Ok(self.lock().things.processes.get(&pid).map(|process| process.start))
    }

    fn in_netns(&self, path: &Path) -> Vec<u32> {
        let inner = self.lock();
        let netns = inner.netns_at(path);
        let processes = inner.things.processes.iter();
        processes.filter(|(_, process)| process.netns == netns).map(|(pid, _)| *pid).collect()
    }

    fn netns_of(&self, pid: u32) -> PathBuf {
        format!("/proc/{pid}/ns/net").into()
    }

    fn own_netns(&self) -> PathBuf {
        OWN_NETNS.into()
    }

    fn inode_at(&self, path: &Path) -> Option<u64> {
        self.lock().inode_at(path)
    }

    fn listeners(&self, protocols: &BTreeSet<Protocol>) -> io::Result<Listeners> {
        let mut inner = self.lock();
        inner.things.listeners_read += 1;
        if inner.things.listeners_fail {
            return Err(io::Error::other("injected"));
        }
        let all = inner.things.listening.iter().enumerate();
        let asked = all.filter(|(_, it)| protocols.contains(&it.protocol));
        Ok(Listeners::of(asked.map(|(number, it)| (it.protocol, it.address, it.port, number.to_string()))))
    }

    fn name(&self, holder: &Holder) -> String {
        let inner = self.lock();
        let mut numbers = holder.inodes().filter_map(|inode| inode.parse::<usize>().ok());
        let first = numbers.next().and_then(|number| inner.things.listening.get(number));
        first.map_or_else(String::new, |it| it.holder.clone())
    }

    fn holder(&self, protocol: Protocol, port: u16) -> Option<String> {
        let inner = self.lock();
        let found = inner.things.listening.iter().find(|it| (it.protocol, it.port) == (protocol, port));
        found.map(|it| it.holder.clone())
    }

    fn link_index(&self, _name: &str) -> Option<u32> {
        None
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok("00000000-0000-0000-0000-000000000000".into())
    }

    fn release(&self) -> String {
        "memory".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Protocol::{Tcp, Udp};

    #[tokio::test]
    async fn a_process_has_a_namespace_until_it_ends_and_its_pid_is_given_to_another_one() {
        let kernel = MemoryKernel::default();
        let path = kernel.netns_of(7);
        assert_eq!((kernel.start_time(7).unwrap(), kernel.inode_at(&path)), (None, None));
        let start = kernel.start_process(7, Netns::Path(path.clone()));
        kernel.start_process(8, Netns::Host);
        assert!(!kernel.is_gone(7, start).unwrap());
        let inode = kernel.inode_at(&path);
        assert!(inode.is_some());
        assert_eq!(crate::kernel::Kernel::netns_inode(&kernel, path.clone()).await.unwrap(), inode);
        assert_eq!(kernel.in_netns(&path), [7]);
        assert_eq!(kernel.inode_at(&kernel.netns_of(8)), kernel.inode_at(&kernel.own_netns()));
        kernel.end_process(7);
        assert!(kernel.is_gone(7, start).unwrap());
        assert_eq!(kernel.inode_at(&path), None);
        kernel.start_process(7, Netns::Path(path));
        assert!(kernel.is_gone(7, start).unwrap(), "it is another one");
    }

    #[test]
    fn listeners_are_those_that_were_given() {
        let kernel = MemoryKernel::default();
        let (any, own): (IpAddr, IpAddr) = ("0.0.0.0".parse().unwrap(), "192.0.2.1".parse().unwrap());
        kernel.listen(Udp, any, 53, "dnsmasq (pid 77)");
        kernel.listen(Tcp, own, 80, "nginx (pid 78)");
        let all = kernel.listeners(&[Tcp, Udp].into()).unwrap();
        let name = |protocol, address, port| all.at(protocol, address, port).map(|it| kernel.name(&it));
        assert_eq!(name(Udp, Some(own), 53).as_deref(), Some("dnsmasq (pid 77)"));
        assert_eq!(name(Tcp, None, 80).as_deref(), Some("nginx (pid 78)"));
        assert_eq!(name(Tcp, "192.0.2.2".parse().ok(), 80), None);
        assert_eq!(kernel.listeners(&[Tcp].into()).unwrap().at(Udp, None, 53), None);
        let text = kernel.in_use(Udp, 53, "--flag");
        assert_eq!(
            text,
            "UDP port 53 is in use by dnsmasq (pid 77): stop it, or choose a different port with --flag"
        );
    }
}
