//! What the kernel has on a host, as text: to compare before and after, and to show when a test fails.

use std::{collections::BTreeSet, fmt, fmt::Write as _};

use anyhow::{Context, Result};

use super::Host;
use crate::program::Program;

/// What is asked, under which heading. No counters, no learnt neighbours: only what somebody set.
const QUESTIONS: [(&str, &[&str]); 10] = [
    ("links", &["ip", "-d", "link"]),
    ("addresses", &["ip", "address"]),
    ("routes", &["ip", "-4", "route", "show", "table", "all"]),
    ("IPv6 routes", &["ip", "-6", "route", "show", "table", "all"]),
    ("rules", &["ip", "rule"]),
    ("neighbours", &["ip", "neigh", "show", "nud", "permanent"]),
    ("forwarding database", &["bridge", "fdb"]),
    ("nftables", &["nft", "list", "ruleset"]),
    ("named namespaces", &["sh", "-c", NAMED]),
    ("files of namespaces", &["sh", "-c", FILES]),
];
/// The directory too: a host on which nobody made a named namespace has none.
const NAMED: &str = "ls -d /run/netns /run/netns/* 2>/dev/null || true";
/// Files that are put over those of `/etc` in named namespaces.
const FILES: &str = "find /etc/netns -mindepth 1 2>/dev/null | sort";
/// The kernel's settings of this network namespace; those that change by themselves left out.
const SETTINGS: &str = "grep -rs . /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/bridge /proc/sys/net/netfilter | \
     grep -v -e nf_conntrack_count -e tcp_fastopen_key -e stable_secret -e /conf/ip6_vti -e /conf/sit | sort";

/// A host's kernel state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelState {
    sections: Vec<(String, String)>,
}

impl KernelState {
    /// The lines that only one of the two has, with `-` and `+`; empty if they are equal.
    pub fn changes(&self, after: &Self) -> String {
        let mut text = String::new();
        for ((heading, before), (_heading, after)) in self.sections.iter().zip(&after.sections) {
            let (old, new): (BTreeSet<_>, BTreeSet<_>) = (before.lines().collect(), after.lines().collect());
            let gone = before.lines().filter(|line| !new.contains(line)).map(|line| ('-', line));
            let added = after.lines().filter(|line| !old.contains(line)).map(|line| ('+', line));
            for (sign, line) in gone.chain(added) {
                // Writing to a String cannot fail.
                writeln!(text, "{heading}: {sign} {line}").ok();
            }
        }
        text
    }
}

impl fmt::Display for KernelState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (heading, text) in self.sections.iter().filter(|(heading, _text)| heading != "settings") {
            writeln!(f, "-- {heading}\n{}", text.trim_end())?;
        }
        Ok(())
    }
}

impl Host {
    /// What the kernel has in the host's own namespace.
    ///
    /// # Errors
    /// A program is missing.
    pub fn kernel_state(&self) -> Result<KernelState> {
        let mut sections = ask(|name| self.program(name))?;
        let settings = self.program("sh").args(["-c", SETTINGS]).ok().context("read the settings")?;
        sections.push(("settings".into(), settings.stdout));
        Ok(KernelState { sections })
    }

    /// What the kernel has in one of the host's named namespaces.
    ///
    /// # Errors
    /// A program is missing, or there is no such namespace.
    pub fn netns_state(&self, netns: &str) -> Result<KernelState> {
        Ok(KernelState { sections: ask(|name| self.sandbox_program(netns, name))? })
    }

    /// The host's named namespaces.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn netns_names(&self) -> Result<Vec<String>> {
        let listed = self.exec_ok(&["sh", "-c", NAMED])?.stdout;
        Ok(listed.lines().filter_map(|line| line.strip_prefix("/run/netns/")).map(String::from).collect())
    }
}

fn ask(program: impl Fn(&str) -> Program) -> Result<Vec<(String, String)>> {
    QUESTIONS
        .iter()
        .map(|(heading, command)| {
            let (name, args) = command.split_first().context("an empty command")?;
            Ok((String::from(*heading), without_timers(&program(name).args(args).ok()?.stdout)))
        })
        .collect()
}

/// A bridge's timers run by themselves: "gc_timer  299.97" becomes "gc_timer".
fn without_timers(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        if !line.contains("_timer ") {
            kept.push_str(line);
        } else {
            let mut timer = false;
            for word in line
                .split_whitespace()
                .filter(|word| !std::mem::replace(&mut timer, word.ends_with("_timer")))
            {
                kept.push(' ');
                kept.push_str(word);
            }
        }
        kept.push('\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_have_no_value() {
        assert_eq!(
            without_timers("lo\n  bridge gc_timer   0.07 priority 1\n"),
            "lo\n bridge gc_timer priority 1\n"
        );
    }

    #[test]
    fn changes_name_the_section_and_the_lines() {
        let state = |text: &str| KernelState { sections: vec![("links".into(), text.into())] };
        assert_eq!(state("lo\neth0\n").changes(&state("lo\neth0\n")), "");
        assert_eq!(state("lo\neth0\n").changes(&state("lo\ntap\n")), "links: - eth0\nlinks: + tap\n");
    }
}
