//! Network namespaces: opening and entering them, their names, sysctls and sockets.

pub(super) mod mounts;
pub(super) mod named;
pub(super) mod namespace;
pub(super) mod procfs;
pub(super) mod sockets;
pub(super) mod sysctl;
#[cfg(test)]
pub(super) mod test_netns;
