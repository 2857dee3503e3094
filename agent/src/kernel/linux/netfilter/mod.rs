//! nftables and connection tracking.

pub(super) mod conntrack;
pub(super) mod elements;
pub(super) mod forward_accepts;
pub(super) mod forwarders;
pub(super) mod listings;
pub(super) mod nft;
pub(super) mod reading;
pub(super) mod resolver;
pub(super) mod wire;
pub(super) mod words;
