//! Finds our objects on this host by their marks: at the start, when only the kernel knows them, and for
//! `cleanup`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Peers, ReconcileError, Reconciler, dirty::Depth};
use crate::{
    kernel::{Kernel, KernelError},
    model::{Name, Sandbox, chain},
    plan::{
        op::Op,
        ownership::{Mark, Unit},
        state::{Look, LookAt, Netns, State},
    },
};

/// Namespaces that are entered in one batch.
const ENTERED: usize = 16;

/// Each unit that has objects in the kernel, with a look that finds all of them. Adopted namespaces have no
/// mark and are found only by the sandboxes' records.
///
/// # Errors
/// The kernel could not be looked at.
pub async fn inventory<K: Kernel>(
    kernel: &K,
    sandboxes: &[Sandbox],
) -> Result<BTreeMap<Unit, Look>, KernelError> {
    let named = kernel.named_netns().await?;
    let mut adopted = BTreeMap::new();
    for sandbox in sandboxes.iter().filter(|sandbox| sandbox.adopted && sandbox.shares.is_none()) {
        if kernel.netns_inode(sandbox.netns.clone()).await? == Some(sandbox.netns_inode) {
            adopted.insert(Netns::Path(sandbox.netns.clone()), sandbox.id);
        }
    }
    let ours = named.iter().filter(|(_, mark)| mark.is_some());
    let places = ours.map(|(name, _)| Netns::Named(name.clone())).chain(adopted.keys().cloned());
    let observed = kernel.observe(links_of(places.chain([Netns::Host]))).await?;
    let mut found = marks(&observed, &named);
    let everything = LookAt { links: None, table: true, resolver: true, ..LookAt::default() };
    for (netns, id) in adopted {
        let look = found.entry(Unit::Sandbox(id)).or_default();
        look.netns.insert(netns, LookAt { links: Some(BTreeSet::new()), ..everything.clone() });
    }
    let host = LookAt { links: Some(BTreeSet::new()), forward_accepts: true, ..everything };
    found.entry(Unit::Host).or_default().netns.insert(Netns::Host, host);
    Ok(found)
}

/// Every unit whose mark is on a namespace that we made, on an object in one, or on a link of the host.
///
/// # Errors
/// The kernel could not be looked at.
pub async fn marked_units<K: Kernel>(kernel: &K) -> Result<BTreeSet<Unit>, KernelError> {
    Ok(inventory(kernel, &[]).await?.into_keys().collect())
}

pub(super) fn links_of(places: impl Iterator<Item = Netns>) -> Look {
    let links = || LookAt { links: None, bare: true, ..LookAt::default() };
    Look { netns: places.map(|netns| (netns, links())).collect() }
}

/// The marks on links, and on named namespaces.
fn marks(observed: &State, named: &[(Name, Option<Mark>)]) -> BTreeMap<Unit, Look> {
    let mut found: BTreeMap<Unit, Look> = BTreeMap::new();
    for (netns, state) in &observed.netns {
        for mark in state.links.values().filter_map(|link| link.mark.as_ref()) {
            found.entry(mark.unit).or_default().netns.entry(netns.clone()).or_default().links = None;
        }
    }
    for (name, mark) in named {
        if let Some(mark) = mark {
            let look = found.entry(mark.unit).or_default();
            let at = look.netns.entry(Netns::Named(name.clone())).or_default();
            (at.table, at.resolver) = (true, true);
        }
    }
    found
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Every unit whose mark is on a namespace, or on a link of the host. The host's links are learned.
    pub(super) async fn marked_units(&mut self) -> Result<BTreeSet<Unit>, ReconcileError> {
        for some in self.new_names().await?.chunks(ENTERED) {
            self.learn_marks(some).await?;
            self.let_others_first().await;
        }
        let host = self.refresh_links().await?;
        let observed = State { netns: [(Netns::Host, host)].into() };
        let on_links = marks(&observed, &[]).into_keys();
        let on_names = self.marks.values().filter_map(|(_, mark)| mark.as_ref()).map(|mark| mark.unit);
        Ok(on_links.chain(on_names).collect())
    }

    /// The named namespaces whose marks are not known, with their inodes; those that are gone are forgotten.
    pub(super) async fn new_names(&mut self) -> Result<Vec<(Name, u64)>, ReconcileError> {
        let names = self.kernel.netns_names().await?;
        self.marks.retain(|name, (inode, _)| names.get(name) == Some(inode));
        Ok(names.into_iter().filter(|(name, _)| !self.marks.contains_key(name)).collect())
    }

    /// Forget the marks of namespaces that these steps make or remove: a new namespace of the same name may
    /// have the same inode, because the kernel reuses numbers.
    pub(super) fn forget_marks(&mut self, ops: &[Op]) {
        for op in ops {
            if let Op::Netns(Netns::Named(name), _) = op {
                self.marks.remove(name);
            }
        }
    }

    /// Learn the marks of these named namespaces. Each is entered only once: if a different namespace has its
    /// name and inode by now, the look at its unit finds out.
    pub(super) async fn learn_marks(&mut self, names: &[(Name, u64)]) -> Result<(), ReconcileError> {
        if names.is_empty() {
            return Ok(());
        }
        let nothing = || LookAt { links: Some(BTreeSet::new()), ..LookAt::default() };
        let places = names.iter().map(|(name, _)| (Netns::Named(name.clone()), nothing()));
        let mut observed = self.observe(Look { netns: places.collect() }).await?;
        for (name, inode) in names {
            if let Some(state) = observed.netns.remove(&Netns::Named(name.clone())) {
                self.marks.insert(name.clone(), (*inode, state.mark));
            }
        }
        Ok(())
    }

    /// Look, once, into the sandboxes that are there for links that an agent before this one left: those without another end
    /// are in no other place.
    pub(super) async fn search_sandboxes(&mut self) {
        if self.searched {
            return;
        }
        match self.search().await {
            Ok(()) => self.searched = true,
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot look for leftover objects in the sandboxes")
            }
        }
    }

    async fn search(&mut self) -> Result<(), ReconcileError> {
        let sandboxes: Vec<Sandbox> = self
            .world
            .read(|intent| intent.sandboxes().values().filter(|it| it.shares.is_none()).cloned().collect());
        let mut places = Vec::new();
        for sandbox in &sandboxes {
            places.extend(self.present(sandbox).await?);
        }
        let observed = self.observe(links_of(places.into_iter())).await?;
        for (unit, look) in marks(&observed, &[]) {
            let Unit::Network(id) = unit else { continue };
            let known = self.programmed.get(&id).map(|known| known.sandboxes()).unwrap_or_default();
            let strange: Vec<Netns> = look.netns.into_keys().filter(|netns| !known.contains(netns)).collect();
            if !strange.is_empty() {
                self.leftovers.entry(id).or_default().extend(strange);
                self.world.look_again(unit, Depth::Full);
            }
        }
        Ok(())
    }
}
