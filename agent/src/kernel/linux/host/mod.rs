//! What the host has, lacks and tells of by itself.

pub(super) mod facts;
pub(super) mod lacks;
pub(super) mod taken;
pub(super) mod watch;
