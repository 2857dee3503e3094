//! Which endpoints are in which sandbox of which node, across networks.

use std::collections::BTreeMap;

use crate::model::{Endpoint, EndpointId, Name, NetworkId, NodeId};

/// Endpoints by node and sandbox; a sandbox has few. Those without a sandbox are nowhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(BTreeMap<NodeId, BTreeMap<Name, Vec<(NetworkId, EndpointId)>>>);

impl Places {
    /// The endpoints in a sandbox, in the order in which they became known.
    pub(super) fn of(&self, node: NodeId, sandbox: &Name) -> &[(NetworkId, EndpointId)] {
        self.0.get(&node).and_then(|sandboxes| sandboxes.get(sandbox)).map_or(&[], Vec::as_slice)
    }

    /// An endpoint is where the second one says, and no longer where the first one did.
    pub(super) fn moved(
        &mut self,
        network: NetworkId,
        id: EndpointId,
        before: Option<(NodeId, Name)>,
        now: Option<&Endpoint>,
    ) {
        if let Some((node, sandbox)) = before {
            self.leave(node, &sandbox, (network, id));
        }
        if let Some(now) = now
            && let Some(sandbox) = &now.sandbox
        {
            let sandboxes = self.0.entry(now.node).or_default();
            sandboxes.entry(sandbox.clone()).or_default().push((network, id));
        }
    }

    fn leave(&mut self, node: NodeId, sandbox: &Name, endpoint: (NetworkId, EndpointId)) {
        let Some(sandboxes) = self.0.get_mut(&node) else { return };
        if let Some(there) = sandboxes.get_mut(sandbox) {
            there.retain(|other| *other != endpoint);
            if there.is_empty() {
                sandboxes.remove(sandbox);
            }
        }
        if sandboxes.is_empty() {
            self.0.remove(&node);
        }
    }
}
