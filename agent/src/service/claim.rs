//! Claiming an endpoint's names and addresses: choose, commit, and choose again while others take what was chosen.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use super::{
    AttachSpec, Reserved, Service, ServiceError, TRIES,
    draft::{self, Choice, Draft},
};
use crate::{
    convert::Record,
    kernel::Kernel,
    model::{IfName, Member, Sandbox},
    store::{Commit, CommitError, Guard, Key, Refusal, StoreError},
};

/// How long to let other attaches of this host come to an end before choosing again.
const CHOOSING: Duration = Duration::from_millis(20);

impl<K: Kernel> Service<K> {
    /// Choose and commit, again while others take what was chosen.
    pub(super) async fn commit_endpoint(
        self: &Arc<Self>,
        sandbox: &Sandbox,
        spec: &AttachSpec,
        interfaces: BTreeSet<IfName>,
    ) -> Result<(Draft, i64), ServiceError> {
        let mut passed_over: BTreeSet<IpAddr> = BTreeSet::new();
        let mut caught_up = false;
        for attempt in 0..TRIES {
            let drafted = self.draft(sandbox, spec, (attempt, &passed_over, &interfaces));
            let (draft, reserved) = match drafted {
                Ok(drafted) => drafted,
                // What others of this host are about to take they may yet leave.
                Err(ServiceError::Exhausted(_)) if attempt + 1 < TRIES && self.others_choose(spec) => {
                    tokio::time::sleep(CHOOSING).await;
                    continue;
                }
                // A change that another node has made a moment ago may not be known here yet.
                Err(error) if caught_up || matches!(error, ServiceError::Invalid(_)) => return Err(error),
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
            let committed = self.global.commit(commit).await;
            drop(reserved);
            match committed {
                Ok(revision) => return Ok((draft, revision)),
                Err(CommitError::Refused(refusals)) => {
                    let found = refusals.iter().filter_map(|refusal| refusal.found.as_ref());
                    let newest = found.map(|entry| entry.mod_revision).max();
                    passed_over.extend(self.weigh(&draft, spec, refusals)?);
                    // What refused us is known here soon; choosing before that would only be refused again.
                    let heard = match newest {
                        Some(newest) => self.hears_of(newest).await,
                        None => self.catch_up().await,
                    };
                    if heard {
                        passed_over.clear();
                    }
                }
                Err(CommitError::Store(error)) => {
                    if matches!(error, StoreError::Unknown { .. }) {
                        self.take_back(&draft.endpoint).await;
                    }
                    return Err(error.into());
                }
            }
        }
        Err(ServiceError::Busy(format!(
            "network {} is so busy that no address could be had in {TRIES} tries: try again",
            spec.network
        )))
    }

    /// Choose from what is known, and keep others of this host from choosing the same.
    fn draft(
        &self,
        sandbox: &Sandbox,
        spec: &AttachSpec,
        (attempt, passed_over, interfaces): (u32, &BTreeSet<IpAddr>, &BTreeSet<IfName>),
    ) -> Result<(Draft, Reserved<'_>), ServiceError> {
        self.world.read(|intent| {
            let (network, _) = intent.find_network(&spec.network)?;
            let mut passed_over = passed_over.clone();
            passed_over.extend(self.reserved(network.id));
            let interfaces = interfaces.clone();
            let choice = Choice { me: self.world.me, spec, sandbox, passed_over, interfaces, attempt };
            let draft = Draft::new(intent, &choice)?;
            let reserved = self.reserve(draft.network.id, &draft.addresses());
            Ok((draft, reserved))
        })
    }

    /// The transaction of a draft. None: this node has left and joined the network since what the draft knows.
    async fn guarded(&self, draft: &Draft) -> Result<Option<Commit>, ServiceError> {
        if draft.first {
            return Ok(Some(draft.commit(None)));
        }
        let key = Key::Member(draft.network.id, self.world.me);
        let Some(entry) = self.global.get(&key).await?.1 else { return Ok(None) };
        let same = Member::from_bytes(&entry.value)? == draft.member;
        Ok(same.then(|| draft.commit(Some(entry.value))))
    }

    /// Whether other attaches of this host to the same network are under way.
    fn others_choose(&self, spec: &AttachSpec) -> bool {
        self.world.read(|intent| {
            let network = intent.find_network(&spec.network);
            network.is_ok_and(|(network, _)| !self.reserved(network.id).is_empty())
        })
    }

    /// Which refusals can be mended by choosing again, and which cannot. The addresses that are taken come back.
    fn weigh(
        &self,
        draft: &Draft,
        spec: &AttachSpec,
        refusals: Vec<Refusal>,
    ) -> Result<Vec<IpAddr>, ServiceError> {
        let mut taken = Vec::new();
        for refusal in refusals {
            match refusal.guard {
                Guard::Absent(Key::Address(network, address)) => {
                    if spec.ip == Some(address) || spec.ip6 == Some(address) {
                        return Err(self.world.read(|intent| match intent.network(network) {
                            Some(view) => draft::taken(&draft.network, view, address),
                            None => ServiceError::Exists(format!("address {address} is taken")),
                        }));
                    }
                    taken.push(address);
                }
                Guard::Absent(Key::EndpointName(_, name)) => {
                    return Err(ServiceError::Exists(format!(
                        "network {} has an endpoint named {name} already: names are unique in a network, so give the \
                         sandbox another one",
                        draft.network.name
                    )));
                }
                Guard::Present(Key::Network(_)) => {
                    return Err(ServiceError::InUse(format!(
                        "network {} was removed at the same time",
                        draft.network.name
                    )));
                }
                // The node's first or last endpoint came or went at the same time: the next draft knows.
                Guard::Absent(_) | Guard::Present(_) | Guard::Unchanged(..) | Guard::Is(..) => {}
            }
        }
        Ok(taken)
    }
}
