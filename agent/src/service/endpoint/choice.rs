//! What an endpoint's draft depends on besides the intent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::AttachSpec;
use crate::model::{IfName, Mac, NetworkId, NodeId, Sandbox};

/// What the choice depends on besides the intent.
pub(in crate::service) struct Choice<'a> {
    pub(in crate::service) me: NodeId,
    pub(in crate::service) network: NetworkId,
    pub(in crate::service) spec: &'a AttachSpec,
    pub(in crate::service) sandbox: &'a Sandbox,
    /// Addresses that turned out to be taken, or that others of this host are about to take.
    pub(in crate::service) passed_over: BTreeSet<IpAddr>,
    /// The same of Ethernet addresses.
    pub(in crate::service) macs: &'a Macs,
    /// Interfaces that the sandbox has already.
    pub(in crate::service) interfaces: BTreeSet<IfName>,
    /// How often this was tried already.
    pub(in crate::service) attempt: u32,
}

/// What the store said of Ethernet addresses that were to be taken.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct Macs {
    /// Others have them.
    pub(in crate::service) taken: BTreeSet<Mac>,
    /// Nobody has them any more, and their keys of these revisions were left behind: by an agent of old, which knows of none.
    pub(in crate::service) left: BTreeMap<Mac, i64>,
}
