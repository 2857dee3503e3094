//! The host outside: it knows the way back to the underlay and to no overlay, and remembers who spoke to it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Place;
use crate::program::{Done, Program};

/// Its address.
pub const OUTSIDE_V4: &str = "198.51.100.2";
/// Its IPv6 address.
pub const OUTSIDE_V6: &str = "2001:db8:51::2";

/// Counts as seen whatever comes in; a set forgets nothing until it is asked.
const TABLE: &str = "
table inet seen {
  set v4 { type ipv4_addr; flags dynamic; size 1024; }
  set v6 { type ipv6_addr; flags dynamic; size 1024; }
  chain input {
    type filter hook input priority 0;
    meta l4proto icmp add @v4 { ip saddr }
    icmpv6 type echo-request add @v6 { ip6 saddr }
  }
}
";

/// The host beyond the router.
#[derive(Clone, Debug)]
pub struct Outside {
    netns: String,
    mark: PathBuf,
}

impl Outside {
    pub(super) fn new(place: &Place) -> Self {
        Self { netns: place.netns("out"), mark: place.dir().to_path_buf() }
    }

    /// Its network namespace, to be entered by a thread.
    pub fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/run/netns/{}", self.netns))
    }

    /// What marks a process of the lab.
    pub(super) fn mark(&self) -> &Path {
        &self.mark
    }

    /// Run a program there.
    pub fn program(&self, name: &str) -> Program {
        Program::new("ip").args(["netns", "exec", &self.netns, name])
    }

    /// The source addresses of the pings that arrive while `during` runs.
    ///
    /// # Errors
    /// nft refuses; `during` fails.
    pub fn sources(&self, during: impl FnOnce() -> Result<()>) -> Result<BTreeSet<String>> {
        self.program("nft").args(["-f", "-"]).input(TABLE).ok()?;
        let result = during();
        let mut seen = BTreeSet::new();
        for set in ["v4", "v6"] {
            let done = self.program("nft").args(["-j", "list", "set", "inet", "seen", set]).ok()?;
            elements(&done, &mut seen)?;
        }
        self.program("nft").args(["delete", "table", "inet", "seen"]).ok()?;
        result.map(|()| seen)
    }
}

fn elements(done: &Done, seen: &mut BTreeSet<String>) -> Result<()> {
    let json = done.json()?;
    let objects = json.get("nftables").and_then(Value::as_array).context("nft's JSON has no objects")?;
    let listed = objects.iter().filter_map(|object| object.get("set")?.get("elem")?.as_array()).flatten();
    for element in listed {
        // An element with a time limit is wrapped: {"elem": {"val": ADDRESS, ...}}.
        let value = element.get("elem").and_then(|wrapped| wrapped.get("val")).unwrap_or(element);
        seen.extend(value.as_str().map(String::from));
    }
    Ok(())
}
