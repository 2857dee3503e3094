//! What steps do to a state, where the real kernel does more than the step says: pairs, ports, lost routes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
};

use ipnet::IpNet;

use super::{
    named,
    refuse::{StepResult, refuse},
    upper,
};
use crate::{
    model::Mac,
    plan::{
        op::{LinkOp, LinkRef, LinkRow, NetnsOp, Op, RowOp, SettingOp},
        ownership::Mark,
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
    /// Identity of a namespace, if it exists.
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

    pub(super) fn apply(&mut self, op: &Op) -> StepResult {
        match op {
            Op::Netns(netns, NetnsOp::Add(mark)) => self.add_netns(netns, mark),
            Op::Netns(netns, NetnsOp::Remove) => self.remove_netns(netns),
            Op::AddLink(new, kind) => self.add_link(new, kind),
            Op::AddVeth(a, b) => self.add_veth(a, b),
            Op::Link(at, op) => self.change_link(at, op),
            Op::Row(at, op, row) => match self.link(at) {
                Err(_gone) if *op == RowOp::Remove => Ok(()),
                link => change_row(link?, *op, row),
            },
            Op::Setting(netns, op) => self.change_setting(netns, op),
        }
    }

    fn add_netns(&mut self, netns: &Netns, mark: &Mark) -> StepResult {
        if self.state.netns.contains_key(netns) {
            return Err(refuse(ErrorKind::AlreadyExists, format!("there is {netns} already")));
        }
        let fresh = NetnsState { mark: Some(mark.clone()), ..NetnsState::default() };
        self.state.netns.insert(netns.clone(), fresh);
        Ok(())
    }

    fn change_link(&mut self, at: &LinkRef, op: &LinkOp) -> StepResult {
        match op {
            LinkOp::Remove => return self.remove_link(at),
            LinkOp::SetMac(mac) => set_mac(self.link(at)?, *mac),
            LinkOp::SetMtu(mtu) => {
                upper::set_mtu(&mut self.state, at, *mtu)?;
                self.link(at)?.mtu = *mtu;
            }
            LinkOp::SetPort(Some(port)) => return self.set_port(at, *port),
            LinkOp::SetPort(None) => leave_bridge(self.link(at)?),
            LinkOp::SetUp(up) => set_up(self.link(at)?, *up),
            LinkOp::SetRoute(to, route) => return self.set_route(at, *to, *route),
            LinkOp::RemoveRoute(to, _) => {
                if let Ok(link) = self.link(at) {
                    link.routes.remove(to);
                }
            }
        }
        Ok(())
    }

    fn change_setting(&mut self, netns: &Netns, op: &SettingOp) -> StepResult {
        match op {
            SettingOp::SetSysctl(key, value) => return self.set_sysctl(netns, key, value),
            SettingOp::SetTable(table) => {
                let mut table = table.clone();
                table.ports.retain(|_, ports| !ports.is_empty());
                self.netns(netns)?.table = Some(table);
            }
            SettingOp::ChangePorts(changes) => return self.change_ports(netns, changes),
            SettingOp::RemoveTable => {
                if let Ok(there) = self.netns(netns) {
                    there.table = None;
                }
            }
            SettingOp::SetResolver(port) => self.netns(netns)?.resolver = Some(*port),
            SettingOp::RemoveResolver => {
                if let Ok(there) = self.netns(netns) {
                    there.resolver = None;
                }
            }
            SettingOp::SetForwardAccepts(family, links) => {
                // Where nobody has such a chain, everything is open.
                if let Some(there) = self.netns(netns)?.forward_accepts.get_mut(family) {
                    there.clone_from(links);
                }
            }
        }
        Ok(())
    }

    /// All or none, as nft has it.
    fn change_ports(&mut self, netns: &Netns, changes: &[PortChange]) -> StepResult {
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

    fn set_sysctl(&mut self, netns: &Netns, key: &str, value: &str) -> StepResult {
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

    fn set_port(&mut self, at: &LinkRef, port: Port) -> StepResult {
        let bridge = LinkRef { netns: at.netns.clone(), name: port.bridge };
        if self.link(&bridge)?.kind != LinkKind::Bridge {
            return Err(refuse(ErrorKind::Unsupported, format!("{bridge} is no bridge")));
        }
        let link = self.link(at)?;
        if link.port.is_some_and(|old| old.bridge != port.bridge) {
            link.bridge_fdb.clear();
        }
        link.port = Some(port);
        Ok(())
    }

    fn set_route(&mut self, at: &LinkRef, to: IpNet, route: Route) -> StepResult {
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

fn change_row(link: &mut Link, op: RowOp, row: &LinkRow) -> StepResult {
    let has_table = match row {
        LinkRow::Address(_) | LinkRow::Neighbour(..) => true,
        LinkRow::VxlanFdb(..) | LinkRow::Flood(_) => matches!(link.kind, LinkKind::Vxlan(_)),
        LinkRow::BridgeFdb(_) => link.port.is_some() || link.kind == LinkKind::Bridge,
    };
    if op == RowOp::Set && !has_table {
        return Err(refuse(ErrorKind::Unsupported, "it has no such table"));
    }
    match row {
        LinkRow::Address(net) => change_set(&mut link.addresses, op, *net),
        LinkRow::Neighbour(ip, mac) => change_map(&mut link.neighbours, op, *ip, *mac),
        LinkRow::VxlanFdb(mac, vtep) => change_map(&mut link.vxlan_fdb, op, *mac, *vtep),
        LinkRow::Flood(vtep) => change_set(&mut link.flood_list, op, *vtep),
        LinkRow::BridgeFdb(mac) => change_set(&mut link.bridge_fdb, op, *mac),
    }
    Ok(())
}

fn change_set<T: Ord>(rows: &mut BTreeSet<T>, op: RowOp, row: T) {
    match op {
        RowOp::Set => rows.insert(row),
        RowOp::Remove => rows.remove(&row),
    };
}

fn change_map<K: Ord, V>(rows: &mut BTreeMap<K, V>, op: RowOp, key: K, value: V) {
    match op {
        RowOp::Set => rows.insert(key, value),
        RowOp::Remove => rows.remove(&key),
    };
}

/// A bridge's own row goes with its address.
fn set_mac(link: &mut Link, mac: Mac) {
    let before = link.mac.replace(mac);
    if link.kind == LinkKind::Bridge {
        link.bridge_fdb.retain(|own| Some(*own) != before);
        link.bridge_fdb.insert(mac);
    }
}

/// A port that leaves its bridge loses the bridge's rows.
fn leave_bridge(link: &mut Link) {
    if link.port.take().is_some() {
        link.bridge_fdb.clear();
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
