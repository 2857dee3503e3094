//! The owner of this node's id: a state directory that was copied with a machine must not make two hosts one
//! node.
//!
//! While an agent runs, `alive/<id>` says which host it runs on, and a lease keeps it. A second agent with
//! the same id on another host finds it there and takes no part: it does not register, does not follow the
//! store, and refuses every verb but `version`, until that lease has run out.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::Path};

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    convert::Record,
    kernel::Machine,
    model::{Name, Node, NodeId},
    service::{Condition, Conditions},
    store::{Key, Store, Tenure},
};

/// A host as long as it runs. None of it is in a file that could be copied: each boot of each machine has an identifier of
/// its own, and the network namespace tells apart hosts that share a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    boot: String,
    netns: u64,
    /// `None` if it is not known.
    vtep: Option<IpAddr>,
}

impl Host {
    /// This one.
    pub(super) fn new(machine: &dyn Machine, vtep: Option<IpAddr>) -> Result<Self> {
        let boot = machine.boot_id()?;
        let path = machine.own_netns();
        let netns = machine.inode_at(&path).with_context(|| format!("cannot look at {}", path.display()))?;
        Ok(Self { boot, netns, vtep })
    }

    /// What `alive/<id>` has.
    fn parse(value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let mut field = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let (boot, netns, vtep) = (field("boot")?, field("netns")?, field("vtep")?);
        Some(Self { boot: boot.to_owned(), netns: netns.parse().ok()?, vtep: vtep.parse().ok() })
    }

    /// Whether an agent that runs here may take over from the one that left this value: it ran on this host since its
    /// last boot, whatever the address was, or with this host's address, before a reboot. A value that says nothing of
    /// its host is of an older version of this agent.
    pub(super) fn is_ours(&self, value: &[u8]) -> bool {
        let Some(other) = Self::parse(value) else { return true };
        let same_run = (&self.boot, self.netns) == (&other.boot, other.netns);
        same_run || self.vtep.is_some() && self.vtep == other.vtep
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vtep = self.vtep.map_or_else(|| "-".to_owned(), |vtep| vtep.to_string());
        write!(f, "boot={} netns={} vtep={vtep}", self.boot, self.netns)
    }
}

/// "host h2 at 10.77.0.2", as far as it is known.
pub(super) fn whose(name: Option<&Name>, value: &[u8]) -> String {
    let name = name.map_or_else(|| "another host".to_owned(), |name| format!("host {name}"));
    match Host::parse(value).and_then(|host| host.vtep) {
        Some(vtep) => format!("{name} at {vtep}"),
        None => name,
    }
}

/// Say while another host has this one's id, until stopped.
pub(super) async fn watch_tenure(
    id: NodeId,
    global: Store,
    state_dir: Box<Path>,
    mut tenure: watch::Receiver<Tenure>,
    notices: Conditions,
    stop: CancellationToken,
) {
    loop {
        let now = tenure.borrow_and_update().clone();
        if let Tenure::Taken(value) = &now {
            // Cut short, it has told nothing yet, and need not.
            let text = tokio::select! {
                () = stop.cancelled() => return,
                text = words(id, &global, &state_dir, value) => text,
            };
            let news = notices.replace(Condition::Clone, BTreeMap::from([(id, text)]));
            news.fresh.values().for_each(|text| tracing::error!("{text}"));
        } else if !notices.replace(Condition::Clone, BTreeMap::new()).over.is_empty() {
            tracing::info!(node = %id, "no other host uses this node's id any more: this host registers");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = tenure.changed() => if changed.is_err() {
                stop.cancelled().await;
                return;
            }
        }
    }
}

async fn words(id: NodeId, global: &Store, state_dir: &Path, value: &[u8]) -> String {
    let record = global.get(&Key::Node(id)).await.ok().and_then(|(_, record)| record);
    let name = record.and_then(|record| Node::from_bytes(&record.value).ok()).map(|node| node.name);
    let dir = state_dir.display();
    format!(
        "this host has the node id {id}, and so has {}, which is alive: one of the two is a copy of the \
         other, and this host takes no part in the cluster while the other is alive; if this host is the \
         copy, stop its agent, delete {dir}/node-id, and {dir}/store.redb unless the other host's sandboxes \
         should run here too, and start the agent again",
        whose(name.as_ref(), value)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::LinuxKernel;

    fn host(boot: &str, netns: u64, vtep: &str) -> Host {
        Host { boot: boot.into(), netns, vtep: vtep.parse().ok() }
    }

    #[test]
    fn a_restart_a_reboot_and_a_new_address_are_us_and_a_copy_elsewhere_is_not() {
        let us = host("b1", 7, "10.0.0.1");
        let is_ours = |other: &Host| us.is_ours(other.to_string().as_bytes());
        assert!(is_ours(&us), "a restart");
        assert!(is_ours(&host("b1", 7, "fd00::9")), "another address since");
        assert!(is_ours(&host("b0", 7, "10.0.0.1")), "a reboot");
        assert!(!is_ours(&host("b2", 7, "10.0.0.2")), "a copy on another machine");
        assert!(!is_ours(&host("b1", 8, "10.0.0.2")), "a copy in another namespace of this machine");
        assert!(
            !host("b1", 7, "-").is_ours(host("b2", 7, "-").to_string().as_bytes()),
            "unknown is not equal"
        );
    }

    #[test]
    fn what_an_older_agent_left_is_taken_over() {
        for value in ["6d1a1f5c-7f0e-4f8e-9a53-1d1d57b6a001", "", "boot=x netns=y vtep=z"] {
            assert!(host("b1", 7, "10.0.0.1").is_ours(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn this_host_reads_back_as_itself() {
        let here = Host::new(&LinuxKernel::new("/nowhere"), "10.0.0.1".parse().ok()).unwrap();
        assert_eq!(Host::parse(here.to_string().as_bytes()), Some(here.clone()));
        assert!(here.boot.len() == 36 && here.netns > 0, "{here}");
    }
}
