//! What steps do to a state, where the real kernel does more than the step says: pairs, ports, lost routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
};

use ipnet::IpNet;

use super::{
    named,
    refuse::{Outcome, refuse},
    upper,
};
use crate::{
    model::Mac,
    plan::{
        op::{LinkRef, Op},
        ruleset::PortChange,
        state::{Link, LinkKind, Netns, NetnsState, Port, Route, State},
    },
};

/// First directories below /proc/sys/net that there are.
const SYSCTLS: [&str; 4] = ["net/ipv4/", "net/ipv6/", "net/bridge/", "net/core/"];
/// Inode of the first namespace, as on the real kernel.
const FIRST_INODE: u64 = 0xf000_0000;

/// The state, and what it does not show.
#[derive(Default)]
pub(super) struct World {
    pub(super) state: State,
    /// The two ends of each veth pair.
    pub(super) pairs: Vec<(LinkRef, LinkRef)>,
    /// Routes of others in a namespace, by destination and metric.
    pub(super) foreign_routes: BTreeSet<(Netns, IpNet, u32)>,
    pub(super) inodes: BTreeMap<Netns, u64>,
}

/// A route as it shows once set: over IPv6 the kernel takes metric 0 for 1024.
pub(super) fn as_set(to: IpNet, mut route: Route) -> Route {
    if route.metric == 0 && to.addr().is_ipv6() {
        route.metric = 1024;
    }
    route
}

/// The link that a key is about, by its name.
pub(super) fn sysctl_link(key: &str) -> Option<&str> {
    let parts: Vec<&str> = key.split('/').collect();
    let [_net, _protocol, "conf" | "neigh", name, _setting] = parts.as_slice() else { return None };
    (!matches!(*name, "all" | "default" | "lo")).then_some(name)
}

impl World {
    /// Identity of a namespace; None: there is none.
    pub(super) fn inode(&mut self, netns: &Netns) -> Option<u64> {
        self.state.netns.get(netns)?;
        if let Some(inode) = self.inodes.get(netns) {
            return Some(*inode);
        }
        // The lowest that is free, as the kernel has it: soon after a namespace's end another one carries its number.
        let taken: BTreeSet<u64> = self.inodes.values().copied().collect();
        let inode = (FIRST_INODE..).find(|inode| !taken.contains(inode))?;
        self.inodes.insert(netns.clone(), inode);
        Some(inode)
    }

    pub(super) fn apply(&mut self, op: &Op) -> Outcome {
        match op {
            Op::AddNetns(netns, mark) => {
                if self.state.netns.contains_key(netns) {
                    return Err(refuse(ErrorKind::AlreadyExists, format!("there is {netns} already")));
                }
                let fresh = NetnsState { mark: Some(mark.clone()), ..NetnsState::default() };
                self.state.netns.insert(netns.clone(), fresh);
                Ok(())
            }
            Op::RemoveNetns(netns) => self.remove_netns(netns),
            Op::AddLink(new, kind) => self.add_link(new, kind),
            Op::AddVeth(a, b) => self.add_veth(a, b),
            Op::RemoveLink(at) => self.remove_link(at),
            Op::SetPort(at, Some(port)) => self.set_port(at, *port),
            Op::SetRoute(at, to, route) => self.set_route(at, *to, *route),
            Op::SetSysctl(netns, key, value) => self.set_sysctl(netns, key, value),
            Op::SetTable(netns, table) => {
                let mut table = table.clone();
                table.ports.retain(|_, ports| !ports.is_empty());
                self.netns(netns)?.table = Some(table);
                Ok(())
            }
            Op::ChangePorts(netns, changes) => self.change_ports(netns, changes),
            Op::RemoveTable(netns) => {
                if let Ok(there) = self.netns(netns) {
                    there.table = None;
                }
                Ok(())
            }
            Op::SetResolver(netns, port) => {
                self.netns(netns)?.resolver = Some(*port);
                Ok(())
            }
            Op::RemoveResolver(netns) => {
                if let Ok(there) = self.netns(netns) {
                    there.resolver = None;
                }
                Ok(())
            }
            Op::SetOpenings(netns, family, links) => {
                // Where nobody has such a chain, everything is open.
                if let Some(there) = self.netns(netns)?.openings.get_mut(family) {
                    there.clone_from(links);
                }
                Ok(())
            }
            Op::SetMtu(at, mtu) => {
                upper::set_mtu(&mut self.state, at, *mtu)?;
                self.change(op)
            }
            Op::SetPort(_, None)
            | Op::SetMac(..)
            | Op::SetUp(..)
            | Op::AddAddress(..)
            | Op::RemoveAddress(..)
            | Op::RemoveRoute(..)
            | Op::SetNeighbour(..)
            | Op::RemoveNeighbour(..)
            | Op::SetTunnel(..)
            | Op::RemoveTunnel(..)
            | Op::AddFlood(..)
            | Op::RemoveFlood(..)
            | Op::SetStation(..)
            | Op::RemoveStation(..) => self.change(op),
        }
    }

    /// All or none, as nft has it.
    fn change_ports(&mut self, netns: &Netns, changes: &[PortChange]) -> Outcome {
        let absent = |what: String| Err(refuse(ErrorKind::NotFound, what));
        let Some(table) = &mut self.netns(netns)?.table else {
            return absent(format!("there is no table of ours in {netns}"));
        };
        let mut ports = table.ports.clone();
        for change in changes {
            let Some(map) = ports.get_mut(&change.map) else {
                return absent(format!("there is no map {:?}", change.map));
            };
            for key in &change.gone {
                if map.remove(key).is_none() {
                    return absent(format!("there is no port {key:?}"));
                }
            }
            map.extend(change.come.clone());
        }
        ports.retain(|_, ports| !ports.is_empty());
        table.ports = ports;
        Ok(())
    }

    fn set_sysctl(&mut self, netns: &Netns, key: &str, value: &str) -> Outcome {
        if !SYSCTLS.iter().any(|start| key.starts_with(start)) {
            return Err(refuse(ErrorKind::NotFound, format!("this kernel has no {key}")));
        }
        let there = self.netns(netns)?;
        if sysctl_link(key).is_some_and(|name| !there.links.keys().any(|link| link.as_str() == name)) {
            return Err(refuse(ErrorKind::NotFound, format!("this kernel has no {key}: no such link")));
        }
        there.sysctls.insert(key.into(), value.into());
        Ok(())
    }

    pub(super) fn netns(&mut self, netns: &Netns) -> io::Result<&mut NetnsState> {
        let gone = || refuse(ErrorKind::NotFound, format!("there is no network namespace {netns}"));
        self.state.netns.get_mut(&named(netns)).ok_or_else(gone)
    }

    pub(super) fn link(&mut self, at: &LinkRef) -> io::Result<&mut Link> {
        let gone = || refuse(ErrorKind::NotFound, "No such device");
        self.netns(&at.netns)?.links.get_mut(&at.name).ok_or_else(gone)
    }

    /// Steps that change one link and nothing else.
    fn change(&mut self, op: &Op) -> Outcome {
        let Some(at) = crate::kernel::step::link(op) else { return Ok(()) };
        let link = match self.link(at) {
            Err(_gone) if op.removes() => return Ok(()),
            link => link?,
        };
        let is_vxlan = matches!(link.kind, LinkKind::Vxlan(_));
        let no_table = || refuse(ErrorKind::Unsupported, "it has no such table");
        match op {
            Op::SetMac(_, mac) => set_mac(link, *mac),
            Op::SetMtu(_, mtu) => link.mtu = *mtu,
            Op::SetPort(..) => leave_bridge(link),
            Op::SetUp(_, up) => set_up(link, *up),
            Op::AddAddress(_, net) => {
                link.addresses.insert(*net);
            }
            Op::RemoveAddress(_, net) => {
                link.addresses.remove(net);
            }
            Op::RemoveRoute(_, to, _) => {
                link.routes.remove(to);
            }
            Op::SetNeighbour(_, ip, mac) => {
                link.neighbours.insert(*ip, *mac);
            }
            Op::RemoveNeighbour(_, ip) => {
                link.neighbours.remove(ip);
            }
            Op::SetTunnel(..) | Op::AddFlood(..) if !is_vxlan => return Err(no_table()),
            Op::SetTunnel(_, mac, vtep) => {
                link.tunnels.insert(*mac, *vtep);
            }
            Op::RemoveTunnel(_, mac) => {
                link.tunnels.remove(mac);
            }
            Op::AddFlood(_, vtep) => {
                link.floods.insert(*vtep);
            }
            Op::RemoveFlood(_, vtep) => {
                link.floods.remove(vtep);
            }
            Op::SetStation(..) if link.port.is_none() && link.kind != LinkKind::Bridge => {
                return Err(no_table());
            }
            Op::SetStation(_, mac) => {
                link.stations.insert(*mac);
            }
            Op::RemoveStation(_, mac) => {
                link.stations.remove(mac);
            }
            Op::AddNetns(..)
            | Op::RemoveNetns(_)
            | Op::AddLink(..)
            | Op::AddVeth(..)
            | Op::RemoveLink(_)
            | Op::SetRoute(..)
            | Op::SetSysctl(..)
            | Op::SetTable(..)
            | Op::ChangePorts(..)
            | Op::RemoveTable(_)
            | Op::SetResolver(..)
            | Op::RemoveResolver(_)
            | Op::SetOpenings(..) => return Err(refuse(ErrorKind::InvalidInput, "not a step on one link")),
        }
        Ok(())
    }

    fn set_port(&mut self, at: &LinkRef, port: Port) -> Outcome {
        let bridge = LinkRef { netns: at.netns.clone(), name: port.bridge };
        if self.link(&bridge)?.kind != LinkKind::Bridge {
            return Err(refuse(ErrorKind::Unsupported, format!("{bridge} is no bridge")));
        }
        let link = self.link(at)?;
        if link.port.is_some_and(|old| old.bridge != port.bridge) {
            link.stations.clear();
        }
        link.port = Some(port);
        Ok(())
    }

    fn set_route(&mut self, at: &LinkRef, to: IpNet, route: Route) -> Outcome {
        let route = as_set(to, route);
        if self.foreign_routes.contains(&(at.netns.clone(), to, route.metric)) {
            let text = format!("there is a route to {to} with metric {} that is not ours", route.metric);
            return Err(refuse(ErrorKind::AlreadyExists, text));
        }
        if !self.link(at)?.up {
            return Err(refuse(ErrorKind::NetworkDown, "the link is down"));
        }
        // The same destination and metric by way of another link: it moves.
        for (name, link) in &mut self.netns(&at.netns)?.links {
            if *name != at.name && link.routes.get(&to).is_some_and(|old| old.metric == route.metric) {
                link.routes.remove(&to);
            }
        }
        self.link(at)?.routes.insert(to, route);
        Ok(())
    }
}

/// A bridge's own row goes with its address.
fn set_mac(link: &mut Link, mac: Mac) {
    let before = link.mac.replace(mac);
    if link.kind == LinkKind::Bridge {
        link.stations.retain(|own| Some(*own) != before);
        link.stations.insert(mac);
    }
}

/// A port that leaves its bridge loses the bridge's rows.
fn leave_bridge(link: &mut Link) {
    if link.port.take().is_some() {
        link.stations.clear();
    }
}

/// A link that goes down loses its routes and its IPv6 addresses.
fn set_up(link: &mut Link, up: bool) {
    link.up = up;
    if !up {
        link.routes.clear();
        link.addresses.retain(|net| net.addr().is_ipv4());
    }
}
