//! Allocates an endpoint's names and addresses: choose, commit, and choose again if other nodes took the
//! choice.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use super::{
    super::{
        Service, ServiceError, TRIES,
        locks::{Turn, Work},
    },
    AttachSpec, PortSpec,
    choice::{Choice, Macs},
    draft::{self, Draft},
    ports::{self, HostPorts, Ports, Refused},
    reservations::{Reservation, Reserved},
};
use crate::{
    convert::Record,
    kernel::Kernel,
    model::{AddressOwner, Endpoint, IfName, Mac, Member, NetworkId, Sandbox, Scope},
    plan::state::{Look, LookAt, Netns},
    store::{Commit, CommitError, Guard, GuardRefusal, Key, StoreError},
};

/// How long to wait for other attaches of this host before choosing again.
const CHOOSING: Duration = Duration::from_millis(20);
/// The file with the range from which the kernel takes ephemeral ports.
const ANY_PORT: &str = "net/ipv4/ip_local_port_range";
/// The kernel's default for that range (Documentation/networking/ip-sysctl.rst).
const USUAL_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// An endpoint that was committed to the store.
pub(in crate::service) struct Claimed<'a> {
    pub(in crate::service) draft: Draft,
    /// The store's revision that made it.
    pub(in crate::service) revision: i64,
    /// Reserves the choice until this node's intent has the endpoint.
    pub(in crate::service) reserved: Reserved<'a>,
}

/// The inputs of an attach, the same in every try.
struct Wish<'a> {
    network: NetworkId,
    sandbox: &'a Sandbox,
    spec: &'a AttachSpec,
    interfaces: BTreeSet<IfName>,
}

impl<K: Kernel> Service<K> {
    /// Choose and commit; repeat if other nodes took the choice.
    pub(in crate::service) async fn commit_endpoint(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        spec: &AttachSpec,
        interfaces: BTreeSet<IfName>,
    ) -> Result<Claimed<'_>, ServiceError> {
        let network = self.known_network(&spec.network).await?;
        let scope = self.scope_of(network);
        let wish = Wish { network, sandbox, spec, interfaces };
        let _turn: Option<Turn> = match scope {
            Scope::Local => Some(self.turns.wait(Work::Network(network)).await?),
            Scope::Global => None,
        };
        let mut passed_over: BTreeSet<IpAddr> = BTreeSet::new();
        let mut macs = Macs::default();
        // Of a network of this host alone all is known that there is.
        let mut caught_up = scope == Scope::Local;
        for attempt in 0..TRIES {
            let host = self.host_ports(network, &spec.ports).await?;
            let (draft, reserved) = match self.draft(&wish, attempt, &passed_over, &macs, host.as_ref()) {
                Ok(drafted) => drafted,
                // What others of this host are about to take they may yet leave.
                Err(refused)
                    if refused.is_exhaustion() && attempt + 1 < TRIES && self.others_choose(network) =>
                {
                    tokio::time::sleep(CHOOSING).await;
                    continue;
                }
                // A change that another node has made a moment ago may not be known here yet.
                Err(refused) if caught_up || refused.is_invalid() => {
                    return Err(refused.into_error(&self.machine).await);
                }
                Err(_stale) => {
                    caught_up = true;
                    self.catch_up().await;
                    continue;
                }
            };
            let Some(commit) = self.guarded(&draft).await? else {
                drop(reserved);
                self.catch_up().await;
                continue;
            };
            match self.store(scope).commit(commit).await {
                Ok(revision) => {
                    if scope == Scope::Local {
                        // Whoever has the next turn goes by what is known.
                        self.hears_of(scope, revision).await;
                    }
                    return Ok(Claimed { draft, revision, reserved });
                }
                Err(CommitError::Refused(refusals)) => {
                    drop(reserved);
                    let found = refusals.iter().filter_map(|refusal| refusal.found.as_ref());
                    let newest = found.map(|entry| entry.mod_revision).max();
                    self.weigh_macs(spec, &refusals, &mut macs).await?;
                    passed_over.extend(self.weigh(&draft, spec, refusals)?);
                    // What refused us is known here soon; choosing before that would only be refused again.
                    let heard = match newest {
                        Some(newest) => self.hears_of(scope, newest).await,
                        None => self.catch_up().await,
                    };
                    if heard {
                        passed_over.clear();
                        macs.taken.clear();
                    }
                }
                Err(CommitError::Store(error)) => {
                    if matches!(error, StoreError::Unknown { .. }) {
                        self.roll_back(&draft.endpoint).await;
                    }
                    return Err(error.into());
                }
            }
        }
        Err(ServiceError::Busy(format!(
            "network {} is busy: no address could be allocated in {TRIES} tries; try again",
            spec.network
        )))
    }

    /// The network of the request; it may be newer than this node's intent.
    async fn known_network(&self, text: &str) -> Result<NetworkId, ServiceError> {
        if let Ok((id, _)) = self.named(text) {
            return Ok(id);
        }
        self.catch_up().await;
        self.named(text).map(|(id, _)| id)
    }

    /// The inputs for the choice of ports, or `None` if no port is requested and none comes with the network.
    async fn host_ports(
        &self,
        network: NetworkId,
        specs: &[PortSpec],
    ) -> Result<Option<HostPorts>, ServiceError> {
        let protocols = self.world.read(|intent| ports::protocols(intent, self.world.me, network, specs));
        if protocols.is_empty() {
            return Ok(None);
        }
        let machine = Arc::clone(&self.machine);
        let read = tokio::task::spawn_blocking(move || machine.listeners(&protocols)).await;
        let listeners = read.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(|error| {
            ServiceError::Kernel(format!("cannot find out which ports of this host are in use: {error}"))
        })?;
        let mut host = HostPorts { addresses: BTreeSet::new(), any: USUAL_PORTS, listeners };
        if !specs.is_empty() {
            let links = self.kernel.facts().await?.links;
            host.addresses = links.iter().flat_map(|link| &link.addresses).map(ipnet::IpNet::addr).collect();
        }
        if specs.iter().any(|port| port.host_ports.is_none()) {
            let at = LookAt {
                links: Some(BTreeSet::new()),
                sysctls: [ANY_PORT.to_owned()].into(),
                ..LookAt::default()
            };
            let seen = self.kernel.observe(Look { netns: [(Netns::Host, at)].into() }).await?;
            let text = seen.netns.get(&Netns::Host).and_then(|host| host.sysctls.get(ANY_PORT)).cloned();
            let mut bounds = text.iter().flat_map(|text| text.split_whitespace()).map(str::parse::<u16>);
            if let (Some(Ok(first)), Some(Ok(last))) = (bounds.next(), bounds.next()) {
                host.any = first.max(1)..=last;
            }
        }
        Ok(Some(host))
    }

    /// Choose from what is known, and reserve the choice against other attaches of this host.
    fn draft(
        &self,
        wish: &Wish<'_>,
        attempt: u32,
        passed_over: &BTreeSet<IpAddr>,
        macs: &Macs,
        host: Option<&HostPorts>,
    ) -> Result<(Draft, Reserved<'_>), Refused> {
        self.world.read(|intent| {
            let mut chosen = self.choosing.lock();
            let mut passed_over = passed_over.clone();
            passed_over.extend(chosen.addresses_in(wish.network));
            let choice = Choice {
                me: self.world.me,
                network: wish.network,
                spec: wish.spec,
                sandbox: wish.sandbox,
                passed_over,
                macs,
                interfaces: wish.interfaces.clone(),
                attempt,
            };
            let mut draft = Draft::new(intent, &choice)?;
            if let Some(host) = host {
                let mut ports = Ports::new(intent, &chosen, self.world.me, &draft.network, host);
                ports.check_mesh(intent)?;
                draft.endpoint.ports = ports.choose(&draft.endpoint, &wish.spec.ports)?;
            }
            let addresses = draft.addresses().into_iter().map(|address| (wish.network, address));
            let reserved = self.choosing.reserve(&mut chosen, addresses, claim(&draft));
            Ok((draft, reserved))
        })
    }

    /// The transaction of a draft. `None` if this node has left and rejoined the network since the draft was
    /// made.
    async fn guarded(&self, draft: &Draft) -> Result<Option<Commit>, ServiceError> {
        let Some(known) = draft.member.as_ref().filter(|_| !draft.first) else {
            return Ok(Some(draft.commit(None)));
        };
        let key = Key::Member(draft.network.id, self.world.me);
        let Some(entry) = self.global.get(&key).await?.1 else { return Ok(None) };
        let same = Member::from_bytes(&entry.value)? == *known;
        Ok(same.then(|| draft.commit(Some(entry.value))))
    }

    /// Whether other attaches of this host to the same network are running.
    fn others_choose(&self, network: NetworkId) -> bool {
        !self.choosing.lock().addresses_in(network).is_empty()
    }

    /// Finds which Ethernet addresses are taken, and which keys were left behind by endpoints that are gone.
    /// If a requested address is taken, that is an error.
    async fn weigh_macs(
        &self,
        spec: &AttachSpec,
        refusals: &[GuardRefusal],
        macs: &mut Macs,
    ) -> Result<(), ServiceError> {
        for refusal in refusals {
            let Key::Mac(network, mac) = *refusal.guard.key() else { continue };
            macs.left.remove(&mac);
            let Some(found) = &refusal.found else { continue };
            if !self.has_mac(network, mac, &found.value).await? {
                macs.left.insert(mac, found.mod_revision);
            } else if spec.mac == Some(mac) {
                let holder = self.world.read(|intent| intent.network(network)?.holder_of_mac(mac));
                let holder = holder.unwrap_or_else(|| "another endpoint".into());
                return Err(ServiceError::Exists(format!("MAC address {mac} is taken by {holder}")));
            } else {
                macs.taken.insert(mac);
            }
        }
        Ok(())
    }

    /// Whether the owner that a key names exists and has the Ethernet address.
    async fn has_mac(&self, network: NetworkId, mac: Mac, owner: &[u8]) -> Result<bool, ServiceError> {
        let (key, endpoint) = match AddressOwner::from_bytes(owner)? {
            AddressOwner::Endpoint(id) => (Key::Endpoint(network, id), true),
            AddressOwner::Node(node) => (Key::Member(network, node), false),
            AddressOwner::Reserved(_) => return Ok(true),
        };
        let Some(record) = self.global.get(&key).await?.1 else { return Ok(false) };
        let has = match endpoint {
            true => Endpoint::from_bytes(&record.value)?.mac,
            false => Member::from_bytes(&record.value)?.mac,
        };
        Ok(has == mac)
    }

    /// Decides whether choosing again can help after a refusal. Returns the addresses that are taken.
    fn weigh(
        &self,
        draft: &Draft,
        spec: &AttachSpec,
        refusals: Vec<GuardRefusal>,
    ) -> Result<Vec<IpAddr>, ServiceError> {
        let mut taken = Vec::new();
        for refusal in refusals {
            let key = refusal.guard.key().bare().clone();
            match (&refusal.guard, key) {
                (Guard::Absent(_), Key::Address(network, address)) => {
                    let chosen = [spec.ip, spec.ip6].contains(&Some(address));
                    if chosen || spec.link_local.contains(&address) {
                        return Err(self.world.read(|intent| match intent.network(network) {
                            Some(view) => draft::taken(&draft.network, view, address),
                            None => ServiceError::Exists(format!("address {address} is taken")),
                        }));
                    }
                    taken.push(address);
                }
                (Guard::Absent(_), Key::EndpointName(_, name)) => {
                    return Err(ServiceError::Exists(format!(
                        "network {} has an endpoint named {name} already: names are unique in a network, so \
                         choose a different name for the sandbox",
                        draft.network.name
                    )));
                }
                (Guard::Present(_), Key::Network(_)) => {
                    return Err(ServiceError::InUse(format!(
                        "network {} was removed at the same time",
                        draft.network.name
                    )));
                }
                // The node's first or last endpoint came or went at the same time: the next draft knows.
                (Guard::Absent(_) | Guard::Present(_) | Guard::Unchanged(..) | Guard::Is(..), _) => {}
            }
        }
        Ok(taken)
    }
}

/// The reserved ports of an endpoint that is being made, as other attaches see them.
fn claim(draft: &Draft) -> Option<(crate::model::EndpointId, Reservation)> {
    let Endpoint { id, name, ports, .. } = &draft.endpoint;
    let holder = format!("endpoint {name} of network {}", draft.network.name);
    (!ports.is_empty())
        .then(|| (*id, Reservation { network: draft.network.id, holder, ports: ports.clone() }))
}
