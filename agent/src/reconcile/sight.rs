//! One look at the host's links for all networks. In a round over everything, a separate look for each
//! network would make the kernel list all routes and neighbours of the host each time.

use std::collections::BTreeSet;

use super::{Peers, ReconcileError, Reconciler};
use crate::{
    drivers::HostLinks,
    kernel::Kernel,
    plan::state::{Look, LookAt, Netns, NetnsState, State},
};

/// What is seen.
#[derive(Debug, Default)]
pub(super) enum Sight {
    /// Each network looks by itself.
    #[default]
    None,
    /// The first one looks for all.
    Wanted,
    /// This is there.
    Seen(Box<NetnsState>),
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Have the next network that is looked at look for those that follow.
    pub(super) fn want_sight(&mut self) {
        self.sight = Sight::Wanted;
    }

    /// What was seen holds no more.
    pub(super) fn forget_sight(&mut self) {
        self.sight = Sight::None;
    }

    /// Whether the host's links are seen, or are going to be, all at once.
    pub(super) fn is_sighted(&self) -> bool {
        !matches!(self.sight, Sight::None)
    }

    /// Look, at links of the host as they have been seen already, if they have.
    pub(super) async fn observe_from_here(&mut self, mut look: Look) -> Result<State, ReconcileError> {
        let Sight::Seen(sight) = &self.sight else { return self.observe(look).await };
        let Some(asked) =
            look.netns.get_mut(&Netns::Host).and_then(|host| host.links.replace(BTreeSet::new()))
        else {
            return self.observe(look).await;
        };
        let links: Vec<_> = asked.iter().filter_map(|name| sight.links.get_key_value(name)).collect();
        let links = links.into_iter().map(|(name, link)| (*name, link.clone())).collect();
        let mut observed = self.observe(look).await?;
        observed.netns.entry(Netns::Host).or_default().links = links;
        Ok(observed)
    }

    /// See the host's links, if nobody has yet and somebody wants to.
    pub(super) async fn take_sight(&mut self) -> Result<(), ReconcileError> {
        if matches!(self.sight, Sight::Wanted) {
            let at = LookAt { links: None, ..LookAt::default() };
            let mut observed = self.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
            let host = observed.netns.remove(&Netns::Host).unwrap_or_default();
            self.links = HostLinks::of(&host).into();
            self.sight = Sight::Seen(Box::new(host));
        }
        Ok(())
    }
}
