//! The namespaces that steps are taken in, kept open from one step to the next.

use std::{collections::BTreeMap, path::Path};

use nix::errno::Errno;

use crate::{
    kernel::linux::{
        netfilter::listings::Listings,
        netns::{mounts::Mounts, namespace::Namespace},
        refusal::Refusal,
    },
    plan::state::Netns,
};

/// The namespaces that are open during one call.
pub(super) struct Session<'a> {
    pub(super) dir: &'a Path,
    pub(super) mounts: &'a Mounts,
    pub(super) listings: &'a Listings,
    pub(super) open: BTreeMap<Netns, Namespace>,
}

impl Session<'_> {
    /// The namespace, opened if need be.
    pub(super) fn namespace(&mut self, netns: &Netns) -> Result<&mut Namespace, Refusal> {
        if !self.open.contains_key(netns) {
            let gone = || Refusal::new(Errno::ENOENT, format!("there is no network namespace {netns}"));
            let namespace = Namespace::open(self.dir, netns)?.ok_or_else(gone)?;
            self.open.insert(netns.clone(), namespace);
        }
        self.open.get_mut(netns).ok_or_else(|| Refusal::from(Errno::ENOENT))
    }
}
