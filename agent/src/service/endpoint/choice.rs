//! The inputs of an endpoint's draft besides the intent.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::AttachSpec;
use crate::model::{IfName, Mac, NetworkId, NodeId, Sandbox};

/// The inputs of a choice besides the intent.
pub(in crate::service) struct Choice<'a> {
    pub(in crate::service) me: NodeId,
    pub(in crate::service) network: NetworkId,
    pub(in crate::service) spec: &'a AttachSpec,
    pub(in crate::service) sandbox: &'a Sandbox,
    /// Addresses that are taken, or reserved by other attaches of this host.
    pub(in crate::service) passed_over: BTreeSet<IpAddr>,
    /// Ethernet addresses that are taken or reserved.
    pub(in crate::service) macs: &'a Macs,
    /// Existing interfaces of the sandbox.
    pub(in crate::service) interfaces: BTreeSet<IfName>,
    /// The number of tries so far.
    pub(in crate::service) attempt: u32,
}

/// The store's answer about Ethernet addresses.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct Macs {
    /// They are taken.
    pub(in crate::service) taken: BTreeSet<Mac>,
    /// They are free, but an old agent, which does not know these keys, left the keys with these revisions
    /// behind.
    pub(in crate::service) left: BTreeMap<Mac, i64>,
}
