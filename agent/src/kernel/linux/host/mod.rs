//! What the host has, lacks and tells of by itself.

pub(super) mod facts;
pub(super) mod port_conflict;
pub(super) mod probe;
pub(super) mod watch;
