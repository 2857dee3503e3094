//! Who enabled the host's forwarding. If this host was not a router before us, it does not route foreign
//! traffic because of us.

use std::collections::{BTreeMap, BTreeSet};

use super::{Peers, ReconcileError, Reconciler};
use crate::{
    kernel::Kernel,
    plan::{FORWARDING_V4, FORWARDING_V6, HOST_SETTINGS, ruleset::Family, state::NetnsState},
    store::Key,
};

/// The settings that forward a family.
const SETTINGS: [(Family, &str); 2] = [(Family::V4, FORWARDING_V4), (Family::V6, FORWARDING_V6)];

/// The known state of the host's forwarding.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// The host's settings that we changed, with their original values; `None` until the local store has been
    /// read.
    originals: Option<BTreeMap<String, String>>,
    /// The families for which another program has rules, as last observed.
    others: BTreeSet<Family>,
}

impl Forwarding {
    /// The families that are forwarded only for our networks: we enabled forwarding, and no other program has
    /// rules.
    pub(super) fn closed(&self) -> BTreeSet<Family> {
        let was_off =
            |key: &str| self.originals.as_ref().and_then(|all| all.get(key)).is_some_and(|was| was == "0");
        let ours = SETTINGS.into_iter().filter(|(_, key)| was_off(key)).map(|(family, _)| family);
        ours.filter(|family| !self.others.contains(family)).collect()
    }

    /// Takes in the observed state of the host and the desired settings. A setting that is off and not
    /// desired on has no owner: a program that turns it on later owns it.
    pub(super) fn saw(&mut self, host: &NetnsState, desired: &BTreeMap<String, String>) {
        self.others.clone_from(&host.forwarders);
        let originals = self.originals.get_or_insert_default();
        for key in HOST_SETTINGS {
            let Some(observed) = host.sysctls.get(key) else { continue };
            match desired.get(key) {
                Some(value) if value != observed => {
                    originals.entry(key.to_owned()).or_insert_with(|| observed.clone());
                }
                None if observed == "0" => drop(originals.remove(key)),
                Some(_) | None => {}
            }
        }
    }
}

impl<K: Kernel, P: Peers> Reconciler<K, P> {
    /// Learn the original settings of the host, once.
    pub(super) async fn learn_originals(&mut self) -> Result<(), ReconcileError> {
        if self.forwarding.originals.is_some() {
            return Ok(());
        }
        let mut originals = BTreeMap::new();
        for key in HOST_SETTINGS {
            let name = Key::Sysctl(key.replace('/', "."));
            let kept = self.local.get(&name).await?.1;
            let value = kept.map(|entry| String::from_utf8_lossy(&entry.value).into_owned());
            originals.extend(value.map(|value| (key.to_owned(), value)));
        }
        self.forwarding.originals = Some(originals);
        Ok(())
    }
}
