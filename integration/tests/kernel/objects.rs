//! Objects and steps that tests use.

use std::process::Command;

use ovagent::{
    kernel::{Kernel, LinuxKernel},
    model::{Mac, Name, NetworkId, Vni},
    plan::{
        op::{LinkRef, NewLink, Op},
        ownership::{Mark, Unit},
        state::{LinkKind, Netns, Vxlan},
    },
};

/// Where named namespaces are.
pub(super) const NETNS_DIR: &str = "/run/netns";

/// Of a test: why it failed.
pub(super) type Outcome = Result<(), String>;

pub(super) fn sh(command: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-ec", command]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| error.to_string());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)))
}

pub(super) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(super) fn named(text: &str) -> Netns {
    Netns::Named(name(text))
}

pub(super) fn mark(role: &str) -> Mark {
    Mark::new(Unit::Network(NetworkId::from_bytes([9; 32])), role)
}

pub(super) fn new(netns: &Netns, link: &str, number: u8) -> NewLink {
    NewLink {
        at: LinkRef { netns: netns.clone(), name: link.parse().expect("a name") },
        mark: mark(link),
        mac: Some(Mac::new([2, 0, 0, 0, 0, number]).expect("a MAC address")),
        mtu: 1450,
    }
}

pub(super) fn vxlan(vni: u32, local: &str) -> LinkKind {
    let local = local.parse().expect("an address");
    LinkKind::Vxlan(Vxlan { vni: Vni::new(vni).expect("a VNI"), local, port: 14790 })
}

pub(super) async fn apply(kernel: &LinuxKernel, ops: Vec<Op>) -> Outcome {
    kernel.apply(ops).await.map_err(|error| error.to_string())
}

pub(super) fn told(holds: bool, text: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(text()) }
}
