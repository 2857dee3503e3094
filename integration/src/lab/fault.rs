//! Bad weather: partitions and loss, as nftables rules in the hosts, under a table of the lab's own.

use anyhow::Result;

use super::{Host, Lab};

/// Name of the lab's table in a host, family `inet`.
pub(super) const TABLE: &str = "lab";

impl Lab {
    /// Nothing passes between hosts `a` and `b` any more, in either direction.
    ///
    /// # Errors
    /// There is no such host; nft refuses.
    pub fn partition(&self, a: usize, b: usize) -> Result<()> {
        let (a, b) = (self.host(a)?, self.host(b)?);
        for (here, there) in [(a, b), (b, a)] {
            here.rule(&format!("ip saddr {} drop", there.address_v4()))?;
            here.rule(&format!("ip6 saddr {} drop", there.address_v6()))?;
        }
        Ok(())
    }

    /// End every partition and loss on every host.
    ///
    /// # Errors
    /// nft refuses.
    pub fn heal(&self) -> Result<()> {
        for host in &self.hosts {
            host.program("nft")
                .args(["-f", "-"])
                .input(format!("{}delete table inet {TABLE}\n", table()))
                .ok()?;
        }
        Ok(())
    }
}

impl Host {
    /// `percent` of the packets that arrive from the underlay are lost.
    ///
    /// # Errors
    /// nft refuses.
    pub fn lose(&self, percent: u8) -> Result<()> {
        self.rule(&format!("iifname eth0 numgen random mod 100 < {percent} drop"))
    }

    /// Nothing arrives from the underlay any more: the host is alone.
    ///
    /// # Errors
    /// nft refuses.
    pub fn isolate(&self) -> Result<()> {
        self.rule("iifname eth0 drop")
    }

    fn rule(&self, rule: &str) -> Result<()> {
        let text = format!("{}add rule inet {TABLE} input {rule}\n", table());
        self.program("nft").args(["-f", "-"]).input(text).ok()?;
        Ok(())
    }
}

fn table() -> String {
    format!(
        "add table inet {TABLE}\nadd chain inet {TABLE} input {{ type filter hook input priority -300; }}\n"
    )
}
