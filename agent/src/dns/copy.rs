//! A copy, on disk, of what the cluster's store said of the networks here: from it the resolvers answer after a start without
//! that store. It is never planned with, and gone from memory as soon as the store has been read.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    convert::Record,
    intent::{Changed, Fact, Intent, Source, Touched},
    model::{Endpoint, Invalid, Network, NodeId},
    reconcile::world::{Revisions, World},
};

/// Least time between two copies, and the most: a disk that was slow once need not be so the next time.
const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

/// What the file begins with; another version is not read.
const MAGIC: &[u8] = b"ovnet names 1\n";
/// Largest file that is read, in bytes: far more than the networks of a host have.
const LARGEST: usize = 64 << 20;
const NETWORK: u8 = b'N';
const ENDPOINT: u8 = b'E';

/// Keep the copy at `path` until stopped, and forget what was known before once all is.
pub(super) async fn keep(shared: Arc<Shared>, path: PathBuf, stop: CancellationToken) {
    let mut changes = shared.world.changes();
    // Nothing is lost when a wait is cut short; what is written is written whole.
    tokio::select! {
        () = stop.cancelled() => return,
        () = shared.world.reached(Revisions::default()) => {}
    }
    *shared.before.write().unwrap_or_else(PoisonError::into_inner) = None;
    let mut pause = LEAST;
    loop {
        let (at, path) = (Arc::clone(&shared), path.clone());
        let start = Instant::now();
        let written = tokio::task::spawn_blocking(move || write(&path, &at.world));
        if let Ok(Err(error)) = written.await {
            // It is missed at a start without the store alone.
            tracing::warn!(%error, "cannot keep a copy of the names");
        }
        // Writing it takes but a small part of the time, unless the disk is very slow.
        pause = (start.elapsed() * 50).max(pause / 2).clamp(LEAST, MOST);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        loop {
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.recv() => changed,
            };
            if concerns_names(&changed) {
                break;
            }
        }
        // Those that have come meanwhile, too: what is written is what is known then.
        while changes.try_recv().is_ok() {}
    }
}

fn concerns_names(changed: &Result<Changed, broadcast::error::RecvError>) -> bool {
    match changed {
        Ok(changed) => matches!(changed.touched, Touched::Network(_) | Touched::Endpoint(..)),
        Err(_) => true,
    }
}

/// The copy's content as a separate intent, or `None` if there is no copy or it cannot be used, which is
/// logged.
pub(super) fn read(path: &Path) -> Option<Intent> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "the copy of the names cannot be read");
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
            tracing::warn!(path = %path.display(), %error, "ignored the copy of the names");
            None
        }
    }
}

/// Write it, whole or not at all, if it says something else by now.
fn write(path: &Path, world: &World) -> io::Result<()> {
    let bytes = world.read(|intent| encode(intent, world.me));
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let new = path.with_extension("new");
    fs::write(&new, &bytes)?;
    fs::rename(&new, path)
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
    let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it is of a different version"))?;
    if bytes.len() > LARGEST {
        return Err(wrong("it is larger than the agent writes"));
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
            _ => return Err(wrong("it has unknown records")),
        });
    }
    Ok(facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dns::zone::tests::{bridge, endpoint, intent},
        model::{
            Scope,
            testing::{self, ME, OTHER},
        },
    };

    #[test]
    fn the_names_of_the_clusters_networks_here_survive_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names");
        assert!(read(&path).is_none());
        let (here, local) = (testing::network(), bridge("local", 1));
        let far = Network { id: bridge("x", 9).id, name: "far".parse().unwrap(), ..testing::network() };
        let all = [
            endpoint(&here, 1, "a", &["10.0.0.1/24"]),
            endpoint(&here, 100, "b", &["10.0.0.2/24"]),
            endpoint(&local, 2, "c", &["10.1.0.1/16"]),
            endpoint(&far, 101, "d", &["10.0.0.3/24"]),
        ];
        assert_eq!((all[0].node, all[3].node), (ME, OTHER));
        let world = World::new(ME);
        for (source, scope) in [(Source::Global, Scope::Global), (Source::Local, Scope::Local)] {
            let networks = [&here, &local, &far].into_iter().filter(|network| network.scope == scope);
            let mut facts: Vec<Fact> =
                networks.map(|network| Fact::Network(network.id, Some(network.clone()))).collect();
            let own = all.iter().filter(|it| (it.network == local.id) == (scope == Scope::Local));
            facts.extend(own.map(|it| Fact::Endpoint(it.network, it.id, Some(it.clone()))));
            world.feed_snapshot(source, 1, facts, &std::collections::BTreeSet::new());
        }
        write(&path, &world).unwrap();
        let read = read(&path).unwrap();
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
