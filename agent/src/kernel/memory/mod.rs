//! A kernel in memory: a state, and steps that do to it what the real kernel would; for tests and simulation.
//!
//! It passes the same [`super::contract`] as the real one. Errors are injected with [`MemoryKernel::fail_when`],
//! [`MemoryKernel::lack_when`] and [`MemoryKernel::fail_looks`].

mod lives;
mod machine;
mod refuse;
mod sockets;
mod upper;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use self::{machine::Things, world::World};
use super::{
    ApplyError, Facts, Hint, Kernel, KernelError,
    step::{self, Broken},
};
use crate::{
    model::{IfName, Name},
    plan::{
        Connection, Outdated,
        op::Op,
        ownership::Mark,
        state::{Link, Look, Netns, NetnsState, State},
    },
};

/// Where named namespaces are for [`Kernel::netns_inode`].
const NETNS_DIR: &str = "/run/netns";
/// The MTU of a path that none was set for, in bytes.
const MTU: u32 = 1500;

/// When to fail.
type FailsOn = Box<dyn Fn(&Op) -> bool + Send>;
/// Which looks to hold up.
type Gate = Box<dyn Fn(&Look) -> bool + Send>;

/// The kernel in memory. It has the host's namespace, others come by steps or by [`MemoryKernel::edit`].
pub struct MemoryKernel {
    inner: Mutex<Inner>,
    opened: Notify,
}

#[derive(Default)]
struct Inner {
    world: World,
    things: Things,
    facts: Facts,
    path_mtus: BTreeMap<IpAddr, u32>,
    connections: BTreeMap<Netns, Vec<Connection>>,
    fault: Option<FailsOn>,
    lack: Option<FailsOn>,
    gate: Option<Gate>,
    held: u64,
    looks_to_fail: u32,
    applied: u64,
    looked: u64,
}

impl fmt::Debug for MemoryKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKernel").field("state", &self.lock().world.state).finish_non_exhaustive()
    }
}

impl Default for MemoryKernel {
    fn default() -> Self {
        Self::new(Facts::default())
    }
}

impl MemoryKernel {
    /// With a host of these facts and nothing of ours.
    pub fn new(facts: Facts) -> Self {
        let mut inner = Inner { facts, ..Inner::default() };
        inner.world.state.netns.insert(Netns::Host, NetnsState::default());
        Self { inner: Mutex::new(inner), opened: Notify::new() }
    }

    /// A copy of all that there is.
    pub fn state(&self) -> State {
        self.lock().world.state.clone()
    }

    /// Change what there is behind everybody's back: foreign links, adopted namespaces, damage.
    pub fn edit(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock().world.state);
    }

    /// Change the host's facts.
    pub fn set_facts(&self, facts: Facts) {
        self.lock().facts = facts;
    }

    /// The host's facts.
    pub fn facts_now(&self) -> Facts {
        self.lock().facts.clone()
    }

    /// Set the MTU of the path to an address, in bytes; 1500 if it is never set.
    pub fn set_path_mtu(&self, to: IpAddr, mtu: u32) {
        self.lock().path_mtus.insert(to, mtu);
    }

    /// Track a connection in a namespace.
    pub fn track(&self, netns: Netns, connection: Connection) {
        self.lock().connections.entry(netns).or_default().push(connection);
    }

    /// The connections tracked in a namespace.
    pub fn tracked(&self, netns: &Netns) -> Vec<Connection> {
        self.lock().connections.get(netns).cloned().unwrap_or_default()
    }

    /// From now on steps fail that `when` says yes to.
    pub fn fail_when(&self, when: impl Fn(&Op) -> bool + Send + 'static) {
        self.lock().fault = Some(Box::new(when));
    }

    /// From now on the kernel lacks the driver for steps that `when` says yes to.
    pub fn lack_when(&self, when: impl Fn(&Op) -> bool + Send + 'static) {
        self.lock().lack = Some(Box::new(when));
    }

    /// The next `times` looks fail.
    pub fn fail_looks(&self, times: u32) {
        self.lock().looks_to_fail = times;
    }

    /// From now on looks that `when` says yes to wait until [`MemoryKernel::open_gate`].
    pub fn hold_looks(&self, when: impl Fn(&Look) -> bool + Send + 'static) {
        self.lock().gate = Some(Box::new(when));
    }

    /// Let the looks go on that wait.
    pub fn open_gate(&self) {
        self.lock().gate = None;
        self.opened.notify_waiters();
    }

    /// How many looks were held up so far.
    pub fn held(&self) -> u64 {
        self.lock().held
    }

    /// No more injected failures.
    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.fault = None;
        inner.lack = None;
        inner.looks_to_fail = 0;
    }

    /// How many steps were applied so far, those that failed included.
    pub fn applied(&self) -> u64 {
        self.lock().applied
    }

    /// How many looks there were so far, those that failed included.
    pub fn looked(&self) -> u64 {
        self.lock().looked
    }

    /// Wait while looks like this are held up.
    async fn pass(&self, look: &Look) {
        let mut waited = false;
        loop {
            let mut opened = std::pin::pin!(self.opened.notified());
            // Before the gate is looked at: it may be opened at any time.
            opened.as_mut().enable();
            {
                let mut inner = self.lock();
                if !inner.gate.as_ref().is_some_and(|holds| holds(look)) {
                    return;
                }
                inner.held += u64::from(!std::mem::replace(&mut waited, true));
            }
            opened.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A test that panicked while it held the lock left a state as good as any.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn injected(operation: &'static str, target: impl Into<String>) -> KernelError {
    KernelError::Os { operation, target: target.into(), source: io::Error::other("injected") }
}

impl Kernel for MemoryKernel {
    async fn observe(&self, look: Look) -> Result<State, KernelError> {
        self.pass(&look).await;
        let mut inner = self.lock();
        inner.looked += 1;
        if inner.looks_to_fail > 0 {
            inner.looks_to_fail -= 1;
            return Err(injected("look at links of", "memory"));
        }
        let mut observed = State::default();
        for (netns, at) in &look.netns {
            let Some(there) = inner.world.state.netns.get(&named(netns)) else { continue };
            let mut part = there.clone();
            part.links.retain(|name, _| at.links.as_ref().is_none_or(|links| links.contains(name)));
            if at.bare {
                part.links.values_mut().for_each(strip);
            }
            part.sysctls.retain(|key, _| at.sysctls.contains(key));
            part.table = part.table.filter(|_| at.table);
            part.resolver = part.resolver.filter(|_| at.resolver);
            part.forward_accepts.retain(|_, _| at.forward_accepts);
            part.forwarders.retain(|_| at.forward_accepts);
            observed.netns.insert(netns.clone(), part);
        }
        Ok(observed)
    }

    async fn apply(&self, ops: Vec<Op>) -> Result<(), ApplyError> {
        let mut inner = self.lock();
        let total = ops.len();
        let mut broken = Broken::default();
        let mut failures = Vec::new();
        for op in ops {
            if broken.concerns(&op) {
                continue;
            }
            inner.applied += 1;
            let (operation, target) = step::words(&op);
            let outcome = if inner.fault.as_ref().is_some_and(|fails| fails(&op)) {
                Err(injected(operation, target))
            } else if inner.lack.as_ref().is_some_and(|lacks| lacks(&op)) {
                Err(KernelError::Missing { feature: "such devices", option: "a driver that is in no memory" })
            } else {
                inner.world.apply(&op).map_err(|source| KernelError::Os { operation, target, source })
            };
            if let Err(error) = outcome {
                broken.note(&op);
                failures.push((op, error));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(ApplyError { total, failures }) }
    }

    async fn forget(&self, netns: Netns, outdated: Outdated) -> Result<usize, KernelError> {
        let mut inner = self.lock();
        let Some(tracked) = inner.connections.get_mut(&netns) else { return Ok(0) };
        let before = tracked.len();
        tracked.retain(|connection| !outdated.has(connection));
        Ok(before - tracked.len())
    }

    async fn connected(&self, netns: Netns) -> Result<BTreeSet<IpAddr>, KernelError> {
        Ok(self.tracked(&netns).iter().flat_map(Connection::addresses).collect())
    }

    async fn facts(&self) -> Result<Facts, KernelError> {
        Ok(self.lock().facts.clone())
    }

    async fn path_mtu(&self, to: IpAddr) -> Result<u32, KernelError> {
        Ok(self.lock().path_mtus.get(&to).copied().unwrap_or(MTU))
    }

    async fn named_netns(&self) -> Result<Vec<(Name, Option<Mark>)>, KernelError> {
        let inner = self.lock();
        let all = inner.world.state.netns.iter();
        Ok(all
            .filter_map(|(netns, there)| match netns {
                Netns::Named(name) => Some((name.clone(), there.mark.clone())),
                Netns::Host | Netns::Path(_) => None,
            })
            .collect())
    }

    async fn netns_names(&self) -> Result<BTreeMap<Name, u64>, KernelError> {
        let mut inner = self.lock();
        let named: Vec<Netns> = inner.world.state.netns.keys().cloned().collect();
        let names = named.into_iter().filter_map(|netns| {
            let inode = inner.world.inode(&netns)?;
            match netns {
                Netns::Named(name) => Some((name, inode)),
                Netns::Host | Netns::Path(_) => None,
            }
        });
        Ok(names.collect())
    }

    async fn link_names(&self) -> Result<BTreeSet<IfName>, KernelError> {
        let inner = self.lock();
        Ok(inner
            .world
            .state
            .netns
            .get(&Netns::Host)
            .into_iter()
            .flat_map(|host| host.links.keys().copied())
            .collect())
    }

    async fn lacking(&self) -> Result<Vec<KernelError>, KernelError> {
        Ok(Vec::new())
    }

    /// The kernel in memory sends no hints.
    async fn watch(&self, _hints: mpsc::Sender<Hint>, stop: CancellationToken) -> Result<(), KernelError> {
        stop.cancelled().await;
        Ok(())
    }

    async fn netns_inode(&self, path: PathBuf) -> Result<Option<u64>, KernelError> {
        Ok(self.lock().inode_at(&path))
    }
}

/// Take off what hangs off a link.
fn strip(link: &mut Link) {
    link.addresses.clear();
    link.routes.clear();
    link.neighbours.clear();
    link.vxlan_fdb.clear();
    link.flood_list.clear();
    link.bridge_fdb.clear();
}

/// A path in the netns directory is a named namespace.
fn named(netns: &Netns) -> Netns {
    if let Netns::Path(path) = netns
        && path.parent() == Some(Path::new(NETNS_DIR))
        && let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok())
    {
        return Netns::Named(name);
    }
    netns.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::contract::{self, Stranger},
        plan::{
            op::{LinkRef, NetnsOp, SettingOp},
            ruleset::Family,
            state::{LinkKind, Route},
        },
    };
    use ipnet::IpNet;

    impl Stranger for MemoryKernel {
        fn add_link(&self, at: &LinkRef) -> Result<(), String> {
            self.edit(|state| {
                let mac = "02:00:00:00:99:01".parse::<crate::model::Mac>().unwrap();
                let mark = Mark::new(crate::plan::ownership::Unit::Host, "x");
                let link = Link { mark: None, ..Link::new(LinkKind::Other("dummy".into()), mark, mac, 1500) };
                state.netns.get_mut(&at.netns).unwrap().links.insert(at.name, link);
            });
            Ok(())
        }

        fn remove_link(&self, at: &LinkRef) -> Result<(), String> {
            self.lock().world.drop_link(at);
            Ok(())
        }

        fn close(&self, family: Family) -> Result<(), String> {
            self.edit(|state| {
                state.netns.get_mut(&Netns::Host).unwrap().forward_accepts.insert(family, BTreeSet::new());
                state.netns.get_mut(&Netns::Host).unwrap().forwarders.insert(family);
            });
            Ok(())
        }

        fn open(&self, family: Family) -> Result<(), String> {
            self.edit(|state| {
                state.netns.get_mut(&Netns::Host).unwrap().forward_accepts.remove(&family);
                state.netns.get_mut(&Netns::Host).unwrap().forwarders.remove(&family);
            });
            Ok(())
        }

        fn add_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Result<(), String> {
            self.lock().world.foreign_routes.insert((at.netns.clone(), to, metric));
            Ok(())
        }

        fn has_route(&self, at: &LinkRef, to: IpNet, metric: u32) -> Result<bool, String> {
            Ok(self.lock().world.foreign_routes.contains(&(at.netns.clone(), to, metric)))
        }
    }

    #[tokio::test]
    async fn the_kernel_in_memory_keeps_the_contract() {
        for name in contract::CHECKS {
            let kernel = MemoryKernel::default();
            let outcome = contract::check(name, &kernel, &kernel).await;
            assert_eq!(outcome, Ok(()), "{name}");
        }
    }

    #[tokio::test]
    async fn injected_failures_are_told_and_end_with_heal() {
        let kernel = MemoryKernel::default();
        let op = Op::Setting(Netns::Host, SettingOp::SetSysctl("net/ipv4/ip_forward".into(), "1".into()));
        kernel.fail_when(|op| matches!(op, Op::Setting(_, SettingOp::SetSysctl(..))));
        kernel.fail_looks(1);
        assert_eq!(kernel.apply(vec![op.clone()]).await.unwrap_err().failures[0].0, op);
        assert!(kernel.observe(Look::default()).await.is_err());
        kernel.heal();
        kernel.apply(vec![op]).await.unwrap();
        kernel.observe(Look::default()).await.unwrap();
        assert_eq!((kernel.applied(), kernel.looked()), (2, 2));
    }

    #[tokio::test]
    async fn a_path_in_the_netns_directory_is_the_named_namespace() {
        let kernel = MemoryKernel::default();
        let mark = Mark::new(crate::plan::ownership::Unit::Host, "netns");
        let netns = Netns::Named("box".parse().unwrap());
        let path = PathBuf::from("/run/netns/box");
        kernel.apply(vec![Op::Netns(netns.clone(), NetnsOp::Add(mark.clone()))]).await.unwrap();
        let first = kernel.netns_inode(path.clone()).await.unwrap();
        assert!(first.is_some());
        kernel.apply(vec![Op::Netns(netns.clone(), NetnsOp::Remove)]).await.unwrap();
        assert_eq!(kernel.netns_inode(path.clone()).await.unwrap(), None);
        kernel.apply(vec![Op::Netns(netns, NetnsOp::Add(mark))]).await.unwrap();
        assert_eq!(kernel.netns_inode(path).await.unwrap(), first, "the kernel gives a number out again");
    }

    #[test]
    fn a_route_without_a_metric_is_seen_as_the_real_kernel_shows_it() {
        let route = Route { via: None, source: None, mtu: None, metric: 0 };
        assert_eq!(world::as_set("fd00::/64".parse().unwrap(), route).metric, 1024);
        assert_eq!(world::as_set("10.0.0.0/24".parse().unwrap(), route).metric, 0);
    }
}
