//! A copy, on disk, of what the cluster's store said of the networks here: from it the resolvers answer after a start without
//! that store. It is never planned with, and gone from memory as soon as the store has been read.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    convert::Record,
    intent::{Fact, Intent, Source},
    model::{Endpoint, Invalid, Network, NodeId},
};

/// What the file begins with; another version is not read.
const MAGIC: &[u8] = b"ovnet names 1\n";
/// Largest file that is read, in bytes: far more than the networks of a host have.
const LARGEST: usize = 64 << 20;
const NETWORK: u8 = b'N';
const ENDPOINT: u8 = b'E';

/// The copy's place, and what is in it as far as this agent knows.
#[derive(Clone, Debug)]
pub(super) struct NameCopy {
    path: PathBuf,
    /// The store's revision that it reflects; None: nothing was written yet.
    written: Option<i64>,
}

impl NameCopy {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), written: None }
    }

    /// What is in it, as an intent of its own. None: there is none, or it cannot be used, which is told.
    pub(super) fn read(&self) -> Option<Intent> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %self.path.display(), %error, "the copy of the names cannot be read");
                }
                return None;
            }
        };
        match decode(&bytes) {
            Ok(facts) => {
                let mut intent = Intent::default();
                intent.apply(Source::Global, 1, facts);
                Some(intent)
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the copy of the names is of no use");
                None
            }
        }
    }

    /// What is to be written now, if anything has changed since.
    pub(super) fn due(&self, intent: &Intent, me: NodeId) -> Option<(i64, Vec<u8>)> {
        let revision = intent.revision(Source::Global).filter(|_| intent.loaded())?;
        (self.written != Some(revision)).then(|| (revision, encode(intent, me)))
    }

    /// Write it, whole or not at all. It blocks.
    pub(super) fn write(&mut self, (revision, bytes): (i64, Vec<u8>)) {
        // One that cannot be written is missed at a start without the store alone: that is told once for each change.
        self.written = Some(revision);
        if fs::read(&self.path).is_ok_and(|there| there == bytes) {
            return;
        }
        let new = self.path.with_extension("new");
        if let Err(error) = fs::write(&new, &bytes).and_then(|()| fs::rename(&new, &self.path)) {
            tracing::warn!(path = %self.path.display(), %error, "cannot write the copy of the names");
        }
    }
}

/// The networks of the cluster in which this node has endpoints, with all of theirs.
fn encode(intent: &Intent, me: NodeId) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    let mut push = |kind, record: &[u8]| {
        // Records have limits of their own, far below this.
        if let Ok(length) = u32::try_from(record.len()) {
            bytes.push(kind);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(record);
        }
    };
    for (_, view) in intent.networks().filter(|(_, view)| view.source() == Source::Global) {
        let Some(network) = view.network().filter(|_| view.endpoints_on(me).next().is_some()) else {
            continue;
        };
        push(NETWORK, &network.to_bytes());
        view.endpoints().values().for_each(|endpoint| push(ENDPOINT, &endpoint.to_bytes()));
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<Vec<Fact>, Invalid> {
    let wrong = |reason: &str| Invalid::new("copy of the names", format!("{} bytes", bytes.len()), reason);
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it is of another version"))?;
    if bytes.len() > LARGEST {
        return Err(wrong("it is larger than any of ours"));
    }
    let mut facts = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk().ok_or_else(|| wrong("it was cut off"))?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (record, after) = after.split_at_checked(length).ok_or_else(|| wrong("it was cut off"))?;
        rest = after;
        facts.push(match *kind {
            NETWORK => {
                let network = Network::from_bytes(record)?;
                Fact::Network(network.id, Some(network))
            }
            ENDPOINT => {
                let endpoint = Endpoint::from_bytes(record)?;
                Fact::Endpoint(endpoint.network, endpoint.id, Some(endpoint))
            }
            _ => return Err(wrong("it has records that nobody knows")),
        });
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dns::zone::tests::{bridge, endpoint, intent},
        model::testing::{self, ME, OTHER},
    };

    #[test]
    fn the_names_of_the_clusters_networks_here_survive_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut copy = NameCopy::new(&dir.path().join("names"));
        assert!(copy.read().is_none());
        let (here, local) = (testing::network(), bridge("local", 1));
        let far = Network { id: bridge("x", 9).id, name: "far".parse().unwrap(), ..testing::network() };
        let all = [
            endpoint(&here, 1, "a", &["10.0.0.1/24"]),
            endpoint(&here, 100, "b", &["10.0.0.2/24"]),
            endpoint(&local, 2, "c", &["10.1.0.1/16"]),
            endpoint(&far, 101, "d", &["10.0.0.3/24"]),
        ];
        assert_eq!((all[0].node, all[3].node), (ME, OTHER));
        let known = intent(&[here.clone(), local, far], &all);
        let due = copy.due(&known, ME).unwrap();
        copy.write(due);
        assert!(copy.due(&known, ME).is_none(), "nothing has changed");
        let read = NameCopy::new(&dir.path().join("names")).read().unwrap();
        assert_eq!(read.networks().map(|(id, _)| *id).collect::<Vec<_>>(), [here.id]);
        let view = read.network(here.id).unwrap();
        assert_eq!(view.network(), Some(&here));
        assert_eq!(view.endpoints().values().cloned().collect::<Vec<_>>(), all[..2]);
    }

    #[test]
    fn a_copy_that_is_damaged_is_not_used_by_halves() {
        let network = testing::network();
        let known = intent(std::slice::from_ref(&network), &[endpoint(&network, 1, "a", &["10.0.0.1/24"])]);
        let whole = encode(&known, ME);
        assert_eq!(decode(&whole).unwrap().len(), 2);
        for length in 0..whole.len() {
            // Where a record ends, what comes before it is a whole copy of less.
            let facts = decode(&whole[..length]).map(|facts| facts.len());
            assert!(facts.is_err() || facts.is_ok_and(|count| count < 2), "{length}");
        }
        assert!(decode(b"ovnet names 2\n").is_err());
        assert!(decode(&[MAGIC, b"X\0\0\0\0"].concat()).is_err());
    }
}
