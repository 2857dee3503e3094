//! The lab of ovnet: test hosts in network namespaces.

pub mod enter;
