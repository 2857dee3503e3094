//! The choices of running attaches on this host: addresses, which the transaction decides in the end, and
//! ports of this host, which only these reservations decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::model::{EndpointId, NetworkId, PublishedPort};

/// Choices of running attaches.
#[derive(Debug, Default)]
pub(in crate::service) struct Choosing(Mutex<Chosen>);

/// The choices.
#[derive(Debug, Default)]
pub(in crate::service) struct Chosen {
    addresses: BTreeSet<(NetworkId, IpAddr)>,
    /// The ports of each endpoint that is being made, with its network and the holder's description.
    ports: BTreeMap<EndpointId, Reservation>,
}

/// The ports of an endpoint that is being made.
#[derive(Clone, Debug)]
pub(in crate::service) struct Reservation {
    /// Its network.
    pub(in crate::service) network: NetworkId,
    /// "endpoint web of network bridge".
    pub(in crate::service) holder: String,
    /// Its ports.
    pub(in crate::service) ports: Vec<PublishedPort>,
}

/// A choice. It is released when this is dropped, and kept until the intent has the endpoint.
#[derive(Debug)]
pub(in crate::service) struct Reserved<'a> {
    choosing: &'a Choosing,
    addresses: Vec<(NetworkId, IpAddr)>,
    ports: Option<EndpointId>,
}

impl Choosing {
    /// Choose under the lock. `choose` must not block for long.
    pub(in crate::service) fn lock(&self) -> MutexGuard<'_, Chosen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserve these against other attaches of this host until the guard is dropped.
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
    /// Reserved addresses of a network.
    pub(in crate::service) fn addresses_in(&self, network: NetworkId) -> BTreeSet<IpAddr> {
        self.addresses.iter().filter(|(of, _)| *of == network).map(|(_, address)| *address).collect()
    }

    /// Reserved ports of this host.
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
