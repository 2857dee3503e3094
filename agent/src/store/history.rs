//! Which history of a store an answer belongs to.

use etcd_client::ResponseHeader;

/// Which history a revision belongs to: shows whether a store was restored or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    pub(super) cluster: u64,
    pub(super) term: u64,
    pub(super) revision: i64,
}

impl From<&ResponseHeader> for History {
    fn from(header: &ResponseHeader) -> Self {
        Self { cluster: header.cluster_id(), term: header.raft_term(), revision: header.revision() }
    }
}
