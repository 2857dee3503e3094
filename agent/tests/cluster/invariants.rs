//! What the store must look like whenever nobody is at work, and rows that a node must have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ovagent::{
    convert::Record,
    model::{AddressOwner, Endpoint, EndpointId, Mac, Member, Network, NetworkId, NodeId},
    plan::{netns_of, state::State},
    store::{Change, Key, KeyRange, Listing, Store},
};

/// The global keys, read.
#[derive(Default)]
struct Seen {
    networks: BTreeMap<NetworkId, Network>,
    endpoints: BTreeMap<(NetworkId, EndpointId), Endpoint>,
    members: BTreeMap<(NetworkId, NodeId), Member>,
    owners: BTreeMap<(NetworkId, IpAddr), AddressOwner>,
    macs: BTreeMap<(NetworkId, Mac), AddressOwner>,
    /// Unique names and numbers, and the pools, with the id that they name.
    index: BTreeMap<Key, String>,
}

impl Seen {
    fn of(listing: &Listing) -> Self {
        let mut seen = Self::default();
        for entry in &listing.entries {
            let key: Key = entry.key.parse().unwrap();
            let value = &entry.value;
            match key {
                Key::Network(id) => drop(seen.networks.insert(id, Record::from_bytes(value).unwrap())),
                Key::Endpoint(network, id) => {
                    drop(seen.endpoints.insert((network, id), Record::from_bytes(value).unwrap()));
                }
                Key::Member(network, node) => {
                    drop(seen.members.insert((network, node), Record::from_bytes(value).unwrap()));
                }
                Key::Address(network, address) => {
                    drop(seen.owners.insert((network, address), Record::from_bytes(value).unwrap()));
                }
                Key::Mac(network, mac) => {
                    drop(seen.macs.insert((network, mac), Record::from_bytes(value).unwrap()));
                }
                Key::NetworkName(_) | Key::Vni(_) | Key::EndpointName(..) | Key::Pool(_) => {
                    drop(seen.index.insert(key, String::from_utf8(value.to_vec()).unwrap()));
                }
                Key::Node(_)
                | Key::Alive(_)
                | Key::Here(_)
                | Key::Sandbox(_)
                | Key::Leg(_)
                | Key::Sysctl(_)
                | Key::Identity(_) => {}
            }
        }
        seen
    }

    /// Who should own which address, by the records.
    fn claims(&self) -> BTreeMap<(NetworkId, IpAddr), AddressOwner> {
        let mut claims = BTreeMap::new();
        let mut claim = |network, address, owner: AddressOwner| {
            let other = claims.insert((network, address), owner.clone());
            assert_eq!(other, None, "{address} is also {owner:?}'s");
        };
        for ((network, id), endpoint) in &self.endpoints {
            for address in &endpoint.addresses {
                claim(*network, address.addr(), AddressOwner::Endpoint(*id));
            }
        }
        for ((network, node), member) in &self.members {
            for address in &member.addresses {
                claim(*network, address.addr(), AddressOwner::Node(*node));
            }
        }
        for (id, network) in &self.networks {
            for subnet in &network.subnets {
                claim(*id, subnet.gateway.unwrap(), AddressOwner::Reserved("gateway".into()));
            }
        }
        claims
    }

    /// The same of Ethernet addresses.
    fn mac_claims(&self) -> BTreeMap<(NetworkId, Mac), AddressOwner> {
        let endpoints = self.endpoints.iter();
        let endpoints =
            endpoints.map(|((network, id), it)| ((*network, it.mac), AddressOwner::Endpoint(*id)));
        let members = self.members.iter();
        let members = members.map(|((network, node), it)| ((*network, it.mac), AddressOwner::Node(*node)));
        let mut claims = BTreeMap::new();
        for (claim, owner) in endpoints.chain(members) {
            assert_eq!(claims.insert(claim, owner), None, "{claim:?} has two owners");
        }
        claims
    }

    /// The index keys that the records call for; a pool's only where there is one.
    fn wanted_index(&self) -> BTreeMap<Key, String> {
        let mut index = BTreeMap::new();
        for (id, network) in &self.networks {
            let vni = network.vni.expect("an overlay has a VNI");
            for key in [Key::NetworkName(network.name.clone()), Key::Vni(vni)] {
                assert_eq!(index.insert(key.clone(), id.to_string()), None, "{key} has two networks");
            }
            for subnet in &network.subnets {
                let pool = Key::Pool(subnet.prefix);
                if self.index.get(&pool) == Some(&id.to_string()) {
                    index.insert(pool, id.to_string());
                }
            }
        }
        for ((network, id), endpoint) in &self.endpoints {
            let key = Key::EndpointName(*network, endpoint.name.clone());
            assert_eq!(index.insert(key.clone(), id.to_string()), None, "{key} has two endpoints");
        }
        index
    }
}

/// Check all that must hold of the keys in the store.
pub(crate) async fn check_store(store: &Store) {
    let seen = Seen::of(&store.list(&KeyRange::everything()).await.unwrap());
    assert_eq!(seen.owners, seen.claims(), "address keys (left) are what the records have (right)");
    let claims = seen.mac_claims();
    let strange: Vec<_> = seen.macs.iter().filter(|(key, owner)| claims.get(key) != Some(owner)).collect();
    let missing: Vec<_> = claims.iter().filter(|(key, _)| !seen.macs.contains_key(key)).collect();
    assert!(
        strange.is_empty() && missing.is_empty(),
        "keys of MACs: {strange:?} too many, {missing:?} missing"
    );
    assert_eq!(
        seen.index,
        seen.wanted_index(),
        "names, VNIs and pools (left) are what the records have (right)"
    );
    let present: BTreeSet<_> = seen.endpoints.iter().map(|((network, _), it)| (*network, it.node)).collect();
    let members: BTreeSet<_> = seen.members.keys().copied().collect();
    assert_eq!(members, present, "a member (left) is a node with endpoints (right)");
    let homeless: Vec<_> =
        members.iter().filter(|(network, _)| !seen.networks.contains_key(network)).collect();
    assert!(homeless.is_empty(), "of networks that are gone: {homeless:?}");
}

/// Follows who has which address through the whole history.
#[derive(Default)]
pub(crate) struct Holders(BTreeMap<String, (NetworkId, BTreeSet<IpAddr>)>);

impl Holders {
    /// Take in what happened next. Panics when somebody is handed what another one has.
    pub(crate) fn take(&mut self, change: Change) {
        let events = match change {
            Change::Snapshot(listing) => {
                assert!(self.0.is_empty(), "a snapshot is only the beginning");
                listing.entries.into_iter().map(|entry| (entry.key.clone(), Some(entry))).collect::<Vec<_>>()
            }
            Change::Events { events, .. } => {
                events.into_iter().map(|event| (event.key, event.entry)).collect()
            }
        };
        for (key, entry) in events {
            let held = match (key.parse(), entry) {
                (Ok(Key::Endpoint(network, _)), Some(entry)) => {
                    (network, Endpoint::from_bytes(&entry.value).unwrap().addresses)
                }
                (Ok(Key::Member(network, _)), Some(entry)) => {
                    (network, Member::from_bytes(&entry.value).unwrap().addresses)
                }
                (Ok(Key::Endpoint(..) | Key::Member(..)), None) => {
                    self.0.remove(&key);
                    continue;
                }
                _ => continue,
            };
            let (network, addresses) =
                (held.0, held.1.iter().map(ipnet::IpNet::addr).collect::<BTreeSet<_>>());
            for (other, (of, theirs)) in self.0.iter().filter(|(other, _)| **other != key) {
                let both: Vec<_> = theirs.intersection(&addresses).filter(|_| *of == network).collect();
                assert!(both.is_empty(), "{key} was handed {both:?}, which {other} has");
            }
            self.0.insert(key, (network, addresses));
        }
    }
}

/// Whether a node's kernel sends frames for an endpoint to this VTEP, and knows its addresses.
pub(crate) fn has_rows(state: &State, endpoint: &Endpoint, vtep: IpAddr) -> bool {
    let inside = state.netns.get(&netns_of(endpoint.network));
    let tunnel = inside.and_then(|inside| inside.links.get(&"vxlan0".parse().unwrap()));
    tunnel.is_some_and(|tunnel| {
        tunnel.vxlan_fdb.get(&endpoint.mac) == Some(&vtep)
            && tunnel.bridge_fdb.contains(&endpoint.mac)
            && endpoint.addresses.iter().all(|it| tunnel.neighbours.get(&it.addr()) == Some(&endpoint.mac))
    })
}
