//! What attaches under way on this host have chosen: addresses, which the transaction decides on in the end, and ports of
//! this host, which nobody else decides on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::model::{EndpointId, NetworkId, PublishedPort};

/// Choices of attaches under way.
#[derive(Debug, Default)]
pub(in crate::service) struct Choosing(Mutex<Chosen>);

/// What they have chosen.
#[derive(Debug, Default)]
pub(in crate::service) struct Chosen {
    addresses: BTreeSet<(NetworkId, IpAddr)>,
    /// The ports of each endpoint to be, with its network and how the holder is called.
    ports: BTreeMap<EndpointId, Reservation>,
}

/// The ports of an endpoint to be.
#[derive(Clone, Debug)]
pub(in crate::service) struct Reservation {
    /// Its network.
    pub(in crate::service) network: NetworkId,
    /// "endpoint web of network bridge".
    pub(in crate::service) holder: String,
    /// Its ports.
    pub(in crate::service) ports: Vec<PublishedPort>,
}

/// A choice; others may choose the same when it is dropped. It is kept until everybody here knows of the endpoint.
#[derive(Debug)]
pub(in crate::service) struct Reserved<'a> {
    choosing: &'a Choosing,
    addresses: Vec<(NetworkId, IpAddr)>,
    ports: Option<EndpointId>,
}

impl Choosing {
    /// Choose while nobody else does. Must not block for long.
    pub(in crate::service) fn lock(&self) -> MutexGuard<'_, Chosen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keep others of this host from choosing these until the guard goes.
    pub(in crate::service) fn reserve(
        &self,
        chosen: &mut Chosen,
        addresses: impl IntoIterator<Item = (NetworkId, IpAddr)>,
        claim: Option<(EndpointId, Reservation)>,
    ) -> Reserved<'_> {
        let addresses = addresses.into_iter().filter(|key| chosen.addresses.insert(*key)).collect();
        let ports = claim.as_ref().map(|(id, _)| *id);
        chosen.ports.extend(claim);
        Reserved { choosing: self, addresses, ports }
    }
}

impl Chosen {
    /// Addresses of a network that others are about to take.
    pub(in crate::service) fn addresses_in(&self, network: NetworkId) -> BTreeSet<IpAddr> {
        self.addresses.iter().filter(|(of, _)| *of == network).map(|(_, address)| *address).collect()
    }

    /// Ports of this host that others are about to take.
    pub(in crate::service) fn ports(&self) -> impl Iterator<Item = &Reservation> {
        self.ports.values()
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut chosen = self.choosing.lock();
        for key in &self.addresses {
            chosen.addresses.remove(key);
        }
        if let Some(id) = self.ports {
            chosen.ports.remove(&id);
        }
    }
}
