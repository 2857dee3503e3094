//! How links and namespaces come and go: in pairs, with what is on them, with their settings.

use std::io::ErrorKind;

use super::{
    named,
    refuse::{StepResult, refuse},
    upper,
    world::{World, sysctl_link},
};
use crate::{
    model::IfName,
    plan::{
        op::{LinkRef, NewLink},
        state::{Link, LinkKind, Netns},
    },
};

impl World {
    fn must_be_free(&mut self, at: &LinkRef) -> StepResult {
        if self.netns(&at.netns)?.links.contains_key(&at.name) {
            return Err(refuse(ErrorKind::AlreadyExists, format!("there is a link named {at} already")));
        }
        Ok(())
    }

    fn insert(&mut self, new: &NewLink, kind: LinkKind) -> StepResult {
        let mac = upper::mac(&self.state, &kind).or(new.mac);
        let link = Link { up: false, ..Link::new(kind, new.mark.clone(), mac, new.mtu) };
        self.netns(&new.at.netns)?.links.insert(new.at.name, link);
        Ok(())
    }

    pub(super) fn add_link(&mut self, new: &NewLink, kind: &LinkKind) -> StepResult {
        self.must_be_free(&new.at)?;
        match kind {
            LinkKind::Bridge => {}
            LinkKind::Macvlan(parent, _) | LinkKind::Ipvlan(parent, ..) | LinkKind::Vlan(parent, _) => {
                upper::must_carry(&self.state, *parent, new, kind)?;
            }
            LinkKind::Vxlan(desired) => {
                let same = |link: &Link| match &link.kind {
                    LinkKind::Vxlan(vxlan) => vxlan.vni == desired.vni && vxlan.port == desired.port,
                    LinkKind::Bridge
                    | LinkKind::Macvlan(..)
                    | LinkKind::Ipvlan(..)
                    | LinkKind::Vlan(..)
                    | LinkKind::Veth
                    | LinkKind::Other(_) => false,
                };
                if self.state.netns.values().flat_map(|netns| netns.links.values()).any(same) {
                    let text = "A VXLAN device with the specified VNI already exists";
                    return Err(refuse(ErrorKind::AlreadyExists, text));
                }
            }
            LinkKind::Veth | LinkKind::Other(_) => {
                return Err(refuse(
                    ErrorKind::InvalidInput,
                    format!("a link of kind {kind:?} cannot be made by itself"),
                ));
            }
        }
        self.insert(new, kind.clone())
    }

    pub(super) fn add_veth(&mut self, a: &NewLink, b: &NewLink) -> StepResult {
        self.must_be_free(&a.at)?;
        self.must_be_free(&b.at)?;
        self.insert(a, LinkKind::Veth)?;
        self.insert(b, LinkKind::Veth)?;
        self.pairs.push((a.at.clone(), b.at.clone()));
        Ok(())
    }

    pub(super) fn remove_netns(&mut self, netns: &Netns) -> StepResult {
        let Some(there) = self.state.netns.get(netns) else { return Ok(()) };
        if there.mark.is_none() {
            return Err(refuse(ErrorKind::InvalidInput, "it does not carry our mark"));
        }
        let names: Vec<IfName> = there.links.keys().copied().collect();
        for name in names {
            self.drop_link(&LinkRef { netns: netns.clone(), name });
        }
        self.state.netns.remove(netns);
        self.inodes.remove(netns);
        Ok(())
    }

    pub(super) fn remove_link(&mut self, at: &LinkRef) -> StepResult {
        match self.link(at) {
            Err(_gone) => return Ok(()),
            Ok(link) if link.mark.is_none() => {
                return Err(refuse(ErrorKind::InvalidInput, "it does not carry our mark"));
            }
            Ok(_ours) => {}
        }
        self.drop_link(at);
        Ok(())
    }

    /// A link goes, with its other end, and its ports are free.
    pub(super) fn drop_link(&mut self, at: &LinkRef) {
        let at = LinkRef { netns: named(&at.netns), name: at.name };
        let mut going = vec![at.clone()];
        self.pairs.retain(|(a, b)| {
            let (a, b) = (
                LinkRef { netns: named(&a.netns), name: a.name },
                LinkRef { netns: named(&b.netns), name: b.name },
            );
            let hit = a == at || b == at;
            if hit {
                going.extend([a, b]);
            }
            !hit
        });
        for gone in going {
            let Ok(netns) = self.netns(&gone.netns) else { continue };
            netns.links.remove(&gone.name);
            netns.sysctls.retain(|key, _| sysctl_link(key) != Some(gone.name.as_str()));
            for link in netns.links.values_mut() {
                if link.port.is_some_and(|port| port.bridge == gone.name) {
                    link.port = None;
                    link.bridge_fdb.clear();
                }
            }
            if gone.netns == Netns::Host {
                for on_it in upper::on(&self.state, gone.name) {
                    self.drop_link(&on_it);
                }
            }
        }
    }
}
