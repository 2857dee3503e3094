//! Finds an object by what a user typed: its name, its identifier, or the start of its identifier.

use super::{Intent, NetworkView, Source};
use crate::model::{Endpoint, Network, Node, NodeId, Sandbox};

/// Ids that an error names at most.
const SHOWN: usize = 5;

/// What was typed fits nothing, or too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Nothing.
    #[error("no such {noun}: {text}{}", hint.as_ref().map(|near| format!(" (did you mean {near}?)")).unwrap_or_default())]
    Unknown {
        /// "network", "endpoint" …
        noun: &'static str,
        /// As typed.
        text: String,
        /// The nearest name there is.
        hint: Option<String>,
    },
    /// Several things have this name.
    #[error("{count} {noun}s are named {text}: give the id of one, {ids}")]
    Shared {
        /// "network", "endpoint" …
        noun: &'static str,
        /// As typed.
        text: String,
        /// How many.
        count: usize,
        /// The starts of the first ids.
        ids: String,
    },
    /// The start of several identifiers.
    #[error("{text} is the start of the ids of {count} {noun}s: give more digits, or the name")]
    Ambiguous {
        /// "network", "endpoint" …
        noun: &'static str,
        /// As typed.
        text: String,
        /// How many.
        count: usize,
    },
    /// Two networks of one name: this host's own, and one of all hosts.
    #[error(
        "two networks are named {text}: {local} on this host only, and {global} on all hosts: give the id"
    )]
    TwoScopes {
        /// As typed.
        text: String,
        /// Start of the id of this host's own.
        local: String,
        /// Start of the id of the other.
        global: String,
    },
}

impl Intent {
    /// A network by name, id or a unique start of its id.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn find_network(&self, text: &str) -> Result<(&Network, &NetworkView), LookupError> {
        let all = || self.networks.values().filter_map(|view| Some((view.network()?, view)));
        let named = |source: Source| {
            let mut named =
                all().filter(|(network, view)| view.source() == source && network.name.as_str() == text);
            named.next().map(|(network, _)| network.id.short())
        };
        if let (Some(local), Some(global)) = (named(Source::Local), named(Source::Global)) {
            return Err(LookupError::TwoScopes { text: text.to_owned(), local, global });
        }
        find("network", text, all(), |(network, _)| (network.name.to_string(), network.id.to_string()))
    }

    /// A node by name, id or a unique start of its id; "self" is `me`.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn find_node(&self, text: &str, me: NodeId) -> Result<&Node, LookupError> {
        if text == "self"
            && let Some(node) = self.nodes.get(&me)
        {
            return Ok(node);
        }
        find("node", text, self.nodes.values(), |node| (node.name.to_string(), node.id.to_string()))
    }

    /// What people call a node: its name; where others have the same, its address beside it; its id if there is no record.
    pub fn called(&self, id: NodeId) -> String {
        let Some(node) = self.nodes.get(&id) else { return id.to_string() };
        let shared = self.nodes.values().any(|other| other.id != id && other.name == node.name);
        if shared { format!("{} ({})", node.name, node.vtep) } else { node.name.to_string() }
    }

    /// A sandbox of this node by name, id or a unique start of its id.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn find_sandbox(&self, text: &str) -> Result<&Sandbox, LookupError> {
        find("sandbox", text, self.sandboxes.values(), |sandbox| {
            (sandbox.name.to_string(), sandbox.id.to_string())
        })
    }

    /// An endpoint by `NETWORK/NAME`, id or a unique start of its id, or by its name if only one endpoint has
    /// it.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn find_endpoint(&self, text: &str) -> Result<&Endpoint, LookupError> {
        if let Some((network, name)) = text.split_once('/') {
            let (_, view) = self.find_network(network)?;
            return find("endpoint", name, view.endpoints().values(), |endpoint| {
                (endpoint.name.to_string(), endpoint.id.to_string())
            });
        }
        let all = self.networks.values().flat_map(|view| view.endpoints().values());
        find("endpoint", text, all, |endpoint| (endpoint.name.to_string(), endpoint.id.to_string()))
    }
}

fn find<T>(
    noun: &'static str,
    text: &str,
    all: impl Iterator<Item = T>,
    names: impl Fn(&T) -> (String, String),
) -> Result<T, LookupError> {
    let (mut named, mut prefixed, mut near) = (Vec::<T>::new(), Vec::new(), None);
    for item in all {
        let (name, id) = names(&item);
        if name == text || id == text {
            named.push(item);
        } else if !text.is_empty() && text.len() >= 2 && id.starts_with(text) {
            prefixed.push(item);
        } else if near.is_none() && is_near(&name, text) {
            near = Some(name);
        }
    }
    if named.len() > 1 {
        let ids: Vec<String> =
            named.iter().take(SHOWN).map(|item| names(item).1.chars().take(12).collect()).collect();
        let (text, count) = (text.to_owned(), named.len());
        return Err(LookupError::Shared { noun, text, count, ids: ids.join(" or ") });
    }
    let mut found = if named.is_empty() { prefixed } else { named };
    match (found.len(), found.pop()) {
        (1, Some(item)) => Ok(item),
        (0, _) | (_, None) => Err(LookupError::Unknown { noun, text: text.to_owned(), hint: near }),
        (count, Some(_)) => Err(LookupError::Ambiguous { noun, text: text.to_owned(), count }),
    }
}

/// Whether one could be meant for the other: equal but for case, or one edit apart.
fn is_near(name: &str, text: &str) -> bool {
    if name.eq_ignore_ascii_case(text) {
        return true;
    }
    let (a, b): (Vec<char>, Vec<char>) = (name.chars().collect(), text.chars().collect());
    if a.len().abs_diff(b.len()) > 1 || a.len() < 3 {
        return false;
    }
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    head + tail + 1 >= a.len().max(b.len())
}
