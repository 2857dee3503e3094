//! What our tables meant, for as long as the kernel has the same words for them.
//!
//! The kernel is asked each time ([`words`]). Only words that are not those of the last time are read, here ([`reading`]) or, where
//! that does not know them, by nft, which costs a process. Nothing here is a handle on anything, and nothing that is desired is here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    reading, wire,
    words::{self, Words},
};
use crate::{
    kernel::linux::{netns::namespace::Namespace, refusal::Refusal, rtnl::socket::Rtnl},
    plan::{
        ruleset::{PortChange, Table},
        state::Netns,
    },
};

/// Most tables that are kept: more than a host has networks with a leg.
const MOST: usize = 10_000;

/// What is kept, shared by all clones of a kernel.
#[derive(Clone, Debug, Default)]
pub(in crate::kernel::linux) struct Listings {
    known: Arc<Mutex<BTreeMap<Netns, Known>>>,
    read: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
struct Known {
    generation: u32,
    fingerprint: u64,
    table: Arc<Table>,
}

impl Known {
    fn new(words: &Words, table: Table) -> Self {
        Self { generation: words.generation, fingerprint: words.fingerprint(), table: Arc::new(table) }
    }
}

/// What there is to say of a table without nft.
pub(in crate::kernel::linux) enum Look {
    /// There is none; a kernel without nf_tables has none.
    Absent,
    /// It is this one.
    Known(Arc<Table>),
    /// Nft must read it; what the kernel says now, if it says anything.
    Unknown(Option<Words>),
}

impl Listings {
    /// Look at our table in a namespace.
    pub(in crate::kernel::linux) fn look(&self, namespace: &Namespace, netns: &Netns) -> Look {
        let known = self.lock().get(netns).cloned();
        let words = match observed(namespace, netns, known.as_ref()) {
            Ok(Listed::Absent) => {
                self.forget(netns);
                return Look::Absent;
            }
            Ok(Listed::Same(table)) => return Look::Known(table),
            Ok(Listed::Words(words)) => words,
            Err(refusal) if wire::is_missing(&refusal) => return Look::Absent,
            // Left for nft to tell.
            Err(_refusal) => return Look::Unknown(None),
        };
        let known = match known {
            Some(known) if known.fingerprint == words.fingerprint() => {
                Known { generation: words.generation, ..known }
            }
            _other => match reading::table(&words) {
                Some(table) => Known::new(&words, table),
                None => return Look::Unknown(Some(words)),
            },
        };
        self.keep(netns, known.clone());
        Look::Known(known.table)
    }

    /// Nft has read a table for which the kernel had these words before.
    pub(in crate::kernel::linux) fn was_read(
        &self,
        namespace: &Namespace,
        netns: &Netns,
        before: &Words,
        table: &Table,
    ) {
        match observed(namespace, netns, None) {
            Ok(Listed::Words(now)) if now.fingerprint() == before.fingerprint() => {
                self.keep(netns, Known::new(&now, table.clone()));
            }
            Ok(_) | Err(_) => self.forget(netns),
        }
    }

    /// Nft is asked to read a table.
    pub(in crate::kernel::linux) fn count(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }

    /// How often nft was asked to.
    pub(in crate::kernel::linux) fn reads(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Before a transaction of ours.
    pub(in crate::kernel::linux) fn before(&self, namespace: &Namespace, netns: &Netns) -> Before {
        let known = self.lock().remove(netns);
        let generation = namespace.run(|| words::generation(&mut Rtnl::open_netfilter()?));
        Before { generation: generation.and_then(|it| it).ok(), known }
    }

    /// The table is this one now, by one transaction: if nobody else's came in between, the kernel's words for it are known.
    pub(in crate::kernel::linux) fn after(
        &self,
        namespace: &Namespace,
        netns: &Netns,
        before: Before,
        mut table: Table,
    ) {
        // As it is read: what is empty is not there.
        table.ports.retain(|_, ports| !ports.is_empty());
        let next = before.generation.map(|generation| generation.wrapping_add(1));
        if let Ok(Listed::Words(now)) = observed(namespace, netns, None)
            && Some(now.generation) == next
        {
            self.keep(netns, Known::new(&now, table));
        }
    }

    fn keep(&self, netns: &Netns, now: Known) {
        let mut known = self.lock();
        if known.len() >= MOST && !known.contains_key(netns) {
            known.clear();
        }
        known.insert(netns.clone(), now);
    }

    /// The table, or its namespace, is gone.
    pub(in crate::kernel::linux) fn forget(&self, netns: &Netns) {
        self.lock().remove(netns);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Netns, Known>> {
        // Whatever is there, the kernel is asked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was so before a transaction.
pub(in crate::kernel::linux) struct Before {
    generation: Option<u32>,
    known: Option<Known>,
}

impl Before {
    /// The table as it will be with these changes, if it is known as it was.
    pub(in crate::kernel::linux) fn with(
        &self,
        namespace: &Namespace,
        netns: &Netns,
        changes: &[PortChange],
    ) -> Option<Table> {
        let known = self.known.as_ref()?;
        let same = match observed(namespace, netns, Some(known)).ok()? {
            Listed::Absent => false,
            Listed::Same(_) => true,
            Listed::Words(words) => words.fingerprint() == known.fingerprint,
        };
        if !same {
            return None;
        }
        let mut table = Table::clone(&known.table);
        for change in changes {
            let ports = table.ports.entry(change.map).or_default();
            ports.retain(|key, _| !change.gone.contains(key));
            ports.extend(&change.come);
        }
        Some(table)
    }
}

/// What the kernel says.
enum Listed {
    Absent,
    Same(Arc<Table>),
    Words(Words),
}

/// In the host, which is always the same namespace, no change of any rule is no change of ours; elsewhere a
/// different namespace may have taken the name, and counts from the beginning.
fn observed(namespace: &Namespace, netns: &Netns, known: Option<&Known>) -> Result<Listed, Refusal> {
    let mut socket = namespace.run(Rtnl::open_netfilter)??;
    if let Some(known) = known.filter(|_| *netns == Netns::Host)
        && words::generation(&mut socket)? == known.generation
    {
        return Ok(Listed::Same(Arc::clone(&known.table)));
    }
    Ok(words::of_ours(&mut socket)?.map_or(Listed::Absent, Listed::Words))
}
