//! The lab of ovnet: test hosts in network namespaces, with an underlay, real etcd and real agents as processes.
//!
//! `enter` goes into a world of its own, `lab` builds hosts in it, `frame` runs tests on labs and shows what the kernel
//! had when one fails. The demo and the bench (`src/bin`) stand on the same lab.
//! `vm` has hosts of another kind: virtual machines.

pub mod api;
pub mod binaries;
pub mod dns;
pub mod enter;
mod etc;
pub mod forge;
pub mod frame;
pub mod lab;
pub mod meanwhile;
pub mod ping;
pub mod probe;
pub mod program;
pub mod slow;
pub mod talk;
pub mod vm;
pub mod wait;
