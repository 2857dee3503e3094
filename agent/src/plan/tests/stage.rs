//! A kernel to plan for, and what holds of every plan.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::prelude::*;

use crate::{
    kernel::{Facts, Kernel, MemoryKernel},
    model::{Endpoint, IfName, Mac, Network, Subnet, testing},
    plan::{
        op::{LinkOp, LinkRef, Op, SettingOp},
        ownership::{Mark, Unit},
        ruleset::Family,
        state::{Link, LinkKind, Look, LookAt, Netns, NetnsState, Route, State},
        *,
    },
};

/// A bridge of somebody else's in the host.
pub(crate) const FOREIGN_BRIDGE: IfName = IfName::literal("br-user");
/// A link of somebody else's in the host, and one in each sandbox.
pub(crate) const FOREIGN: [IfName; 2] = [IfName::literal("eth9"), IfName::literal("tap0")];

pub(crate) fn unit() -> Unit {
    Unit::Network(testing::network().id)
}

pub(crate) fn sandbox(number: u8) -> Netns {
    Netns::Path(format!("/proc/{number}/ns/net").into())
}

/// fd00:1::/64.
pub(crate) fn subnet_v6() -> Subnet {
    Subnet {
        prefix: "fd00:1::/64".parse().unwrap(),
        gateway: Some("fd00:1::1".parse().unwrap()),
        ip_range: None,
        aux_addresses: BTreeMap::new(),
    }
}

/// A network with these families.
pub(crate) fn network(v4: bool, v6: bool) -> Network {
    let mut network = testing::network();
    network.subnets.retain(|_| v4);
    network.subnets.extend(v6.then(subnet_v6));
    network
}

/// An endpoint with an address of each subnet of the network.
pub(crate) fn endpoint(network: &Network, number: u8) -> Endpoint {
    let address = |subnet: &Subnet| {
        let address: IpAddr = match subnet.prefix.addr() {
            IpAddr::V4(_) => [10, 0, 0, number].into(),
            IpAddr::V6(_) => [0xfd00, 1, 0, 0, 0, 0, 0, number.into()].into(),
        };
        subnet.with_prefix(address)
    };
    let addresses = network.subnets.iter().map(address).collect();
    Endpoint { addresses, ..testing::endpoint(number, testing::ME) }
}

/// A kernel with every sandbox, and with things that are not ours in the host and in the sandboxes.
pub(crate) fn kernel() -> MemoryKernel {
    let kernel = MemoryKernel::new(Facts::default());
    kernel.edit(|state| {
        let foreign = |name: IfName, kind| Link {
            mark: None,
            ..Link::new(kind, Mark::new(Unit::Host, "x"), Mac::internal(1, name.as_str().as_bytes()), 9000)
        };
        let host = state.netns.entry(Netns::Host).or_default();
        host.links.insert(FOREIGN[0], foreign(FOREIGN[0], LinkKind::Other("nic".into())));
        host.links.insert(FOREIGN_BRIDGE, foreign(FOREIGN_BRIDGE, LinkKind::Bridge));
        host.forward_accepts = [(Family::V4, BTreeSet::new()), (Family::V6, BTreeSet::new())].into();
        for number in 2..30 {
            let mut netns = NetnsState::default();
            netns.links.insert(FOREIGN[1], foreign(FOREIGN[1], LinkKind::Other("tun".into())));
            state.netns.insert(sandbox(number), netns);
        }
        for netns in state.netns.values_mut() {
            let keys = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
            netns.sysctls.extend(keys.map(|key| (key.to_owned(), "0".to_owned())));
        }
    });
    kernel
}

fn look(unit: Unit, state: &State) -> Look {
    let mut look = Look::default();
    for netns in [Netns::Host, netns_of(testing::network().id)].into_iter().chain((2..30).map(sandbox)) {
        let sysctls =
            state.netns.get(&netns).map(|want| want.sysctls.keys().cloned().collect()).unwrap_or_default();
        let host = unit == Unit::Host;
        let table = host || netns != Netns::Host;
        look.netns.insert(
            netns.clone(),
            LookAt { links: None, bare: false, sysctls, table, forward_accepts: host, resolver: true },
        );
    }
    look
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn steps_of(unit: Unit, kernel: &MemoryKernel, desired: &State) -> Vec<Op> {
    let observed = block_on(kernel.observe(look(unit, desired))).unwrap();
    plan(unit, desired, &observed)
}

pub(crate) fn steps(kernel: &MemoryKernel, desired: &State) -> Vec<Op> {
    steps_of(unit(), kernel, desired)
}

/// Plan and apply, step by step: each finds what it refers to.
pub(crate) fn bring_about_of(
    unit: Unit,
    kernel: &MemoryKernel,
    desired: &State,
) -> Result<Vec<Op>, TestCaseError> {
    let ops = steps_of(unit, kernel, desired);
    block_on(async {
        for op in &ops {
            prop_assert!(finds_its_ground(kernel, op), "too early: {op}, of {ops:?}");
            let foreign = link_of(op).filter(|at| at.name == FOREIGN_BRIDGE || FOREIGN.contains(&at.name));
            prop_assert!(foreign.is_none(), "not ours: {op}");
            // The in-memory kernel refuses a step that refers to what does not exist: no prefix of a plan does.
            let applied = kernel.apply(vec![op.clone()]).await;
            applied.map_err(|error| TestCaseError::fail(error.to_string()))?;
        }
        Ok(())
    })?;
    let left = steps_of(unit, kernel, desired);
    prop_assert!(left.is_empty(), "applying a plan leaves nothing to plan, but: {left:?}");
    Ok(ops)
}

pub(crate) fn apply_plan(kernel: &MemoryKernel, desired: &State) -> Result<Vec<Op>, TestCaseError> {
    bring_about_of(unit(), kernel, desired)
}

/// What the real kernel asks for beyond the in-memory one: a gateway on the link, a link for its settings.
fn finds_its_ground(kernel: &MemoryKernel, op: &Op) -> bool {
    let link = |netns: &Netns, name: IfName| kernel.state().netns.remove(netns)?.links.remove(&name);
    if let Op::Link(at, LinkOp::SetRoute(_, Route { via: Some(via), .. })) = op {
        return link(&at.netns, at.name).is_some_and(|link| {
            let on_link = link.routes.iter().filter(|(_, route)| route.via.is_none()).map(|(to, _)| to);
            link.addresses.iter().chain(on_link).any(|net| net.contains(via))
        });
    }
    if let Op::Setting(netns, SettingOp::SetSysctl(key, _)) = op
        && let Some(name) = sysctl::link_of(key)
    {
        return link(netns, name).is_some();
    }
    true
}

pub(crate) fn foreign(state: &State) -> Vec<(Netns, IfName, Link)> {
    let all = state.netns.iter().flat_map(|(netns, state)| {
        state.links.iter().map(|(name, link)| (netns.clone(), *name, link.clone()))
    });
    all.filter(|(_, _, link)| link.mark.is_none()).collect()
}

/// All that there is, without settings: those of the host are not a unit's to take back, those of a link go with it.
pub(crate) fn without_sysctls(mut state: State) -> State {
    for netns in state.netns.values_mut() {
        netns.sysctls.clear();
    }
    state
}

/// What an operation is about, if it is about one link.
pub(crate) fn link_of(op: &Op) -> Option<&LinkRef> {
    if let Op::AddLink(new, _) = op { Some(&new.at) } else { op.link() }
}

/// Break one thing of ours.
pub(crate) fn damage_one(state: &mut State, index: prop::sample::Index) {
    let owned: Vec<(Netns, IfName)> = state
        .netns
        .iter()
        .flat_map(|(netns, state)| {
            state.links.iter().map(|(name, link)| (netns.clone(), *name, link.clone()))
        })
        .filter(|(_, _, link)| link.mark.is_some())
        .map(|(netns, name, _)| (netns, name))
        .collect();
    if owned.is_empty() {
        return;
    }
    let (netns, name) = index.get(&owned);
    let Some(there) = state.netns.get_mut(netns) else { return };
    let Some(link) = there.links.get_mut(name) else { return };
    match index.index(7) {
        0 => {
            let mark = link.mark.clone();
            let veth = link.kind == LinkKind::Veth;
            there.links.remove(name);
            if veth {
                for other in state.netns.values_mut() {
                    other.links.retain(|_, link| link.mark != mark);
                }
            }
        }
        1 => link.addresses.clear(),
        2 => link.up = false,
        3 => link.mtu = 9_000,
        4 => link.port = None,
        5 => {
            link.neighbours.clear();
            link.vxlan_fdb.clear();
        }
        _ => (there.table, there.resolver) = (None, None),
    }
}
