//! Properties of the planner, with the in-memory kernel carrying out the steps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::prelude::*;

use super::{
    op::{LinkRef, Op},
    ownership::{Mark, Unit},
    state::{Link, LinkKind, Look, LookAt, Netns, NetnsState, State, Vxlan},
    *,
};
use crate::{
    kernel::{Facts, Kernel, MemoryKernel},
    model::{IfName, Mac, Member, Network, Subnet, testing},
};

/// What a test network is made of.
#[derive(Clone, Debug)]
struct Shape {
    internal: bool,
    ipv6: bool,
    mtu: u32,
    leg: u16,
    local: BTreeSet<u8>,
    /// Remote stations by number, with the number of their host.
    remote: BTreeMap<u8, u8>,
    multicast: bool,
}

fn shapes() -> impl Strategy<Value = Shape> {
    (
        any::<bool>(),
        any::<bool>(),
        prop_oneof![Just(1450_u32), Just(1430), Just(8950)],
        0..4_u16,
        prop::collection::btree_set(2..30_u8, 0..4),
        prop::collection::btree_map(100..200_u8, 2..6_u8, 0..8),
        any::<bool>(),
    )
        .prop_map(|(internal, ipv6, mtu, leg, local, remote, multicast)| Shape {
            internal,
            ipv6,
            mtu,
            leg,
            local,
            remote,
            multicast,
        })
}

fn unit() -> Unit {
    Unit::Network(testing::network().id)
}

fn sandbox(number: u8) -> Netns {
    Netns::Path(format!("/proc/{number}/ns/net").into())
}

fn vtep(host: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, host])
}

fn wanted(shape: &Shape) -> State {
    let mut network: Network = testing::network();
    network.internal = shape.internal;
    if shape.ipv6 {
        network.subnets.push(Subnet {
            prefix: "fd00:1::/64".parse().unwrap(),
            gateway: Some("fd00:1::1".parse().unwrap()),
            ip_range: None,
            aux_addresses: BTreeMap::new(),
        });
    }
    let member: Member = testing::member(250, testing::ME);
    let endpoints: Vec<_> =
        shape.local.iter().map(|number| testing::endpoint(*number, testing::ME)).collect();
    let local = endpoints.iter().zip(&shape.local);
    let local =
        local.map(|(endpoint, number)| LocalEndpoint { endpoint, sandbox: sandbox(*number) }).collect();
    let station = |(number, host): (&u8, &u8)| {
        let address = IpAddr::from([10, 0, 0, *number]);
        Station { mac: Mac::derived(address), addresses: vec![address], vtep: vtep(*host) }
    };
    overlay(&OverlayInput {
        network: &network,
        member: &member,
        vxlan: Vxlan { vni: network.vni.unwrap(), local: vtep(1), port: 4789 },
        mtu: shape.mtu,
        leg: (!shape.internal).then(|| Leg::new(shape.leg).unwrap()),
        host_routes: if shape.internal { vec![] } else { vec![network.subnets[0].prefix] },
        ports: vec![],
        local,
        remote: shape.remote.iter().map(station).collect(),
        floods: if shape.multicast {
            shape.remote.values().map(|host| vtep(*host)).collect()
        } else {
            vec![]
        },
        features: Features { bridge_netfilter: true, ipv6: true },
    })
}

/// A kernel with every sandbox, and with things that are not ours in the host and in the sandboxes.
fn kernel() -> MemoryKernel {
    let kernel = MemoryKernel::new(Facts::default());
    kernel.edit(|state| {
        let foreign = |kind: &str| Link {
            mark: None,
            ..Link::new(
                LinkKind::Other(kind.into()),
                Mark::new(Unit::Host, "x"),
                Mac::internal(1, kind.as_bytes()),
                1500,
            )
        };
        let host = state.netns.entry(Netns::Host).or_default();
        host.links.insert(IfName::literal("eth9"), foreign("nic"));
        for number in 2..30 {
            let mut netns = NetnsState::default();
            netns.links.insert(IfName::literal("tap0"), foreign("tun"));
            state.netns.insert(sandbox(number), netns);
        }
        for netns in state.netns.values_mut() {
            let keys = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
            netns.sysctls.extend(keys.map(|key| (key.to_owned(), "0".to_owned())));
        }
    });
    kernel
}

fn look(state: &State) -> Look {
    let mut look = Look::default();
    for netns in [Netns::Host, netns_of(testing::network().id)].into_iter().chain((2..30).map(sandbox)) {
        let sysctls =
            state.netns.get(&netns).map(|want| want.sysctls.keys().cloned().collect()).unwrap_or_default();
        look.netns.insert(
            netns.clone(),
            LookAt { links: None, sysctls, table: netns != Netns::Host, openings: false },
        );
    }
    look
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn steps(kernel: &MemoryKernel, wanted: &State) -> Vec<Op> {
    let seen = block_on(kernel.observe(look(wanted))).unwrap();
    plan(unit(), wanted, &seen)
}

fn bring_about(kernel: &MemoryKernel, wanted: &State) -> Result<Vec<Op>, TestCaseError> {
    let ops = steps(kernel, wanted);
    // The in-memory kernel refuses a step that refers to what does not exist: no prefix of a plan does.
    block_on(kernel.apply(ops.clone())).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let left = steps(kernel, wanted);
    prop_assert!(left.is_empty(), "applying a plan leaves nothing to plan, but: {left:?}");
    Ok(ops)
}

fn foreign(state: &State) -> Vec<(Netns, IfName, Link)> {
    let all = state.netns.iter().flat_map(|(netns, state)| {
        state.links.iter().map(|(name, link)| (netns.clone(), *name, link.clone()))
    });
    all.filter(|(_, _, link)| link.mark.is_none()).collect()
}

/// What an operation is about, if it is about one link.
fn link_of(op: &Op) -> Option<&LinkRef> {
    match op {
        Op::AddLink(new, _) => Some(&new.at),
        Op::RemoveLink(at)
        | Op::SetMac(at, _)
        | Op::SetMtu(at, _)
        | Op::SetPort(at, _)
        | Op::SetUp(at, _)
        | Op::AddAddress(at, _)
        | Op::RemoveAddress(at, _)
        | Op::SetRoute(at, _, _)
        | Op::RemoveRoute(at, _, _)
        | Op::SetNeighbour(at, _, _)
        | Op::RemoveNeighbour(at, _)
        | Op::SetTunnel(at, _, _)
        | Op::RemoveTunnel(at, _)
        | Op::AddFlood(at, _)
        | Op::RemoveFlood(at, _)
        | Op::SetStation(at, _)
        | Op::RemoveStation(at, _) => Some(at),
        Op::AddNetns(..)
        | Op::RemoveNetns(_)
        | Op::AddVeth(..)
        | Op::SetSysctl(..)
        | Op::SetTable(..)
        | Op::RemoveTable(_)
        | Op::SetOpenings(..) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_state_becomes_any_other_and_foreign_things_stay(first in shapes(), second in shapes()) {
        let kernel = kernel();
        let before = foreign(&kernel.state());
        for shape in [&first, &second] {
            for op in bring_about(&kernel, &wanted(shape))? {
                let names = link_of(&op).map(|at| at.name.to_string());
                prop_assert!(!names.is_some_and(|name| name == "eth9" || name == "tap0"), "{op}");
            }
        }
        prop_assert_eq!(foreign(&kernel.state()), before);
    }

    #[test]
    fn whatever_is_damaged_is_mended(shape in shapes(), damage in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let kernel = kernel();
        let wanted = wanted(&shape);
        bring_about(&kernel, &wanted)?;
        for index in damage {
            kernel.edit(|state| damage_one(state, index));
        }
        bring_about(&kernel, &wanted)?;
    }

    #[test]
    fn nothing_of_ours_is_left_when_nothing_is_wanted(shape in shapes()) {
        let kernel = kernel();
        let before = kernel.state();
        bring_about(&kernel, &wanted(&shape))?;
        bring_about(&kernel, &State::default())?;
        let mut after = kernel.state();
        let mut expected = before;
        // Settings of the host are not the unit's to take back.
        for state in [&mut after, &mut expected] {
            for netns in state.netns.values_mut() {
                netns.sysctls.clear();
            }
        }
        prop_assert_eq!(after, expected);
    }

    #[test]
    fn removing_one_host_touches_its_rows_alone(shape in shapes(), host in 2..6_u8) {
        let kernel = kernel();
        let shape = Shape { multicast: false, ..shape };
        bring_about(&kernel, &wanted(&shape))?;
        let mut fewer = shape.clone();
        fewer.remote.retain(|_, of| *of != host);
        let gone: BTreeSet<Mac> = shape
            .remote
            .iter()
            .filter(|(_, of)| **of == host)
            .map(|(number, _)| Mac::derived(IpAddr::from([10, 0, 0, *number])))
            .collect();
        for op in bring_about(&kernel, &wanted(&fewer))? {
            let its_own = if let Op::RemoveTunnel(_, mac) | Op::RemoveStation(_, mac) = &op {
                gone.contains(mac)
            } else if let Op::RemoveNeighbour(_, address) = &op {
                gone.contains(&Mac::derived(*address))
            } else {
                false
            };
            prop_assert!(its_own, "{} has nothing to do with that host", op);
        }
    }

    #[test]
    fn changed_rows_planned_alone_come_to_the_same(first in shapes(), second in shapes()) {
        let second = Shape { local: second.local, remote: second.remote, multicast: false, ..first.clone() };
        let first = Shape { multicast: false, ..first };
        let (by_rows, whole) = (kernel(), kernel());
        bring_about(&by_rows, &wanted(&first))?;
        bring_about(&whole, &wanted(&first))?;
        bring_about(&whole, &wanted(&second))?;
        let ops = plan(unit(), &wanted(&second), &wanted(&first));
        block_on(by_rows.apply(ops)).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(by_rows.state(), whole.state());
    }
}

fn damage_one(state: &mut State, index: prop::sample::Index) {
    let owned: Vec<(Netns, IfName)> = state
        .netns
        .iter()
        .flat_map(|(netns, state)| {
            state.links.iter().map(|(name, link)| (netns.clone(), *name, link.clone()))
        })
        .filter(|(_, _, link)| link.mark.is_some())
        .map(|(netns, name, _)| (netns, name))
        .collect();
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
            link.tunnels.clear();
        }
        _ => there.table = None,
    }
}

#[test]
fn another_units_links_are_not_looked_at() {
    let kernel = kernel();
    let stranger = Mark::new(Unit::Network(crate::model::NetworkId::from_bytes([1; 32])), "leg");
    kernel.edit(|state| {
        let link = Link::new(LinkKind::Veth, stranger.clone(), Mac::internal(1, b"a"), 1500);
        state.netns.entry(Netns::Host).or_default().links.insert(IfName::literal("ovh-other"), link);
    });
    assert!(steps(&kernel, &State::default()).is_empty());
}

#[test]
fn a_veth_whose_end_was_renamed_is_made_anew() {
    let kernel = kernel();
    let shape = Shape {
        internal: false,
        ipv6: false,
        mtu: 1450,
        leg: 0,
        local: [5].into(),
        remote: BTreeMap::new(),
        multicast: false,
    };
    let wanted = wanted(&shape);
    bring_about(&kernel, &wanted).unwrap();
    kernel.edit(|state| {
        let links = &mut state.netns.get_mut(&sandbox(5)).unwrap().links;
        let end = links.remove("eth0".parse::<IfName>().as_ref().unwrap()).unwrap();
        links.insert(IfName::literal("lan0"), end);
    });
    bring_about(&kernel, &wanted).unwrap();
    let state = kernel.state();
    let links = &state.netns[&sandbox(5)].links;
    assert!(links.contains_key(&IfName::literal("eth0")) && !links.contains_key(&IfName::literal("lan0")));
}
