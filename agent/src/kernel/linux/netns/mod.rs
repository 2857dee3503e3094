//! Network namespaces: opening and entering them, their names, sysctls and sockets.

#[cfg(test)]
pub(super) mod alone;
pub(super) mod mounts;
pub(super) mod named;
pub(super) mod namespace;
pub(super) mod sockets;
pub(super) mod sysctl;
