//! The identifiers of this node and of its cluster. Each is a file in the state directory, with copies in the run directory
//! and in this host's own store: what runs here must not become another node's because one file is gone.

use std::{fmt::Display, fs, io::Write, path::Path, str::FromStr, sync::Arc};

use anyhow::{Context, Result, bail};
use tokio_util::sync::CancellationToken;

use crate::{
    model::{ClusterId, NodeId, chain},
    reconcile::{Evidence, world::World},
    store::{Commit, Identity, Key, Store},
};

/// The file with this node's id.
pub(super) const NODE_ID: &str = "node-id";
/// The file with the identity of this node's cluster.
pub(super) const CLUSTER_ID: &str = "cluster-id";

/// Where they are kept.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) state_dir: Box<Path>,
    /// In memory: it lasts as long as what is in the kernel does.
    pub(super) run_dir: Box<Path>,
    pub(super) local: Store,
}

/// What a file has.
enum Found<T> {
    Id(T),
    Nothing,
    /// It is there and has no identifier.
    Damaged(String),
}

impl Places {
    /// This node's id: as it is kept, or made if there is none. A copy counts only while something of ours is in the kernel:
    /// who deletes the file on a host that has nothing wants another id.
    ///
    /// # Errors
    /// Something of ours is in the kernel, and no place has the id; a file cannot be read or written.
    pub(super) async fn node(&self, evidence: &Evidence) -> Result<NodeId> {
        let path = self.state_dir.join(NODE_ID);
        let damaged = match read(&path)? {
            Found::Id(id) => {
                self.copy(NODE_ID, Key::Identity(Identity::NodeCopy), &id).await;
                return Ok(id);
            }
            Found::Nothing => None,
            Found::Damaged(text) => Some(text),
        };
        let what = match &damaged {
            Some(text) => format!("{} does not contain a node id ({text:?})", path.display()),
            None => format!("{} is gone", path.display()),
        };
        let id = if evidence.is_empty() {
            if damaged.is_some() {
                bail!("{what}: restore the file, or delete it to make this host a new node");
            }
            NodeId(uuid::Uuid::new_v4())
        } else {
            let Some(id) = self.copied(NODE_ID, &Key::Identity(Identity::NodeCopy)).await else {
                bail!(
                    "{what}, and so are its copies, but this host has {} networks and {} sandboxes of ovnet \
                     in its kernel. They keep working, and none of them is removed. Write this node's id \
                     into {} ('ovctl node ls --no-trunc' on another host shows it), or remove everything of \
                     ovnet from this host with 'ovagent cleanup'",
                    evidence.networks.len(),
                    evidence.sandboxes.len(),
                    path.display()
                )
            };
            tracing::warn!(node = %id, "{what}: restored from its copy");
            id
        };
        write(&path, &id)?;
        self.copy(NODE_ID, Key::Identity(Identity::NodeCopy), &id).await;
        Ok(id)
    }

    /// The identity of this node's cluster, if it has been in one.
    pub(super) async fn cluster(&self) -> Result<Option<ClusterId>> {
        match read(&self.state_dir.join(CLUSTER_ID))? {
            Found::Id(id) => Ok(Some(id)),
            Found::Nothing => Ok(self.copied(CLUSTER_ID, &Key::Identity(Identity::ClusterCopy)).await),
            Found::Damaged(text) => {
                let copy = self.copied(CLUSTER_ID, &Key::Identity(Identity::ClusterCopy)).await;
                tracing::warn!(
                    file = CLUSTER_ID, %text, copy = copy.is_some(),
                    "the file does not contain a cluster identity"
                );
                Ok(copy)
            }
        }
    }

    /// Write down the identity of this node's cluster as it becomes known, until stopped.
    pub(super) async fn keep_cluster(self, world: Arc<World>, stop: CancellationToken) {
        let mut changes = world.cluster_changes();
        loop {
            let known = *changes.borrow_and_update();
            if let Some(id) = known {
                if let Err(error) = write(&self.state_dir.join(CLUSTER_ID), &id) {
                    tracing::warn!(error = format!("{error:#}"), "cannot save the cluster's identity");
                }
                self.copy(CLUSTER_ID, Key::Identity(Identity::ClusterCopy), &id).await;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender lives as long as the world.
                _ = changes.changed() => {}
            }
        }
    }

    async fn copied<T: FromStr>(&self, file: &str, key: &Key) -> Option<T> {
        if let Ok(Found::Id(id)) = read(&self.run_dir.join(file)) {
            return Some(id);
        }
        let entry = self.local.get(key).await.ok()?.1?;
        String::from_utf8_lossy(&entry.value).trim().parse().ok()
    }

    /// Refresh the copies; without them all works.
    async fn copy<T: Display>(&self, file: &str, key: Key, id: &T) {
        let text = id.to_string();
        let known = self.local.get(&key).await.ok().and_then(|(_, entry)| entry);
        if known.is_none_or(|entry| entry.value != text)
            && let Err(error) = self.local.commit(Commit::new().put(key, text)).await
        {
            tracing::debug!(file, error = chain(&error), "cannot copy it to this host's own store");
        }
        let path = self.run_dir.join(file);
        if let Err(error) =
            fs::create_dir_all(&self.run_dir).map_err(Into::into).and_then(|()| write(&path, id))
        {
            tracing::debug!(
                file = %path.display(), error = format!("{error:#}"),
                "cannot copy it to the run directory"
            );
        }
    }
}

/// This node's id as the state directory has it, for callers that must not make one.
///
/// # Errors
/// It has none.
pub(super) fn kept_node(state_dir: &Path) -> Result<NodeId> {
    let path = state_dir.join(NODE_ID);
    match read(&path)? {
        Found::Id(id) => Ok(id),
        Found::Nothing => bail!("{} does not exist", path.display()),
        Found::Damaged(text) => bail!("{} does not contain a node id ({text:?})", path.display()),
    }
}

fn read<T: FromStr>(path: &Path) -> Result<Found<T>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text
            .trim()
            .parse()
            .map_or_else(|_| Found::Damaged(text.chars().take(60).collect()), Found::Id)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Ok(Found::Damaged("not text".into()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Whole or not at all, whatever dies in the middle.
fn write<T: Display>(path: &Path, id: &T) -> Result<()> {
    let part = path.with_extension("part");
    let write = || {
        let mut file = fs::File::create(&part)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write()
        .inspect_err(|_failed| {
            // It may not even be there.
            drop(fs::remove_file(&part));
        })
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::SandboxId, store::Embedded};

    struct Dirs {
        state: tempfile::TempDir,
        run: tempfile::TempDir,
        places: Places,
    }

    fn dirs() -> Dirs {
        let (state, run) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let local = Store::embedded(&Embedded::open(None).unwrap());
        let places = Places { state_dir: state.path().into(), run_dir: run.path().into(), local };
        Dirs { state, run, places }
    }

    fn running() -> Evidence {
        Evidence { sandboxes: [SandboxId::from_bytes([1; 32])].into(), ..Evidence::default() }
    }

    #[tokio::test]
    async fn a_node_id_is_made_once_and_taken_back_from_either_copy_while_something_of_ours_runs() {
        let Dirs { state, run, places } = dirs();
        let id = places.node(&Evidence::default()).await.unwrap();
        assert_eq!(places.node(&running()).await.unwrap(), id, "kept");
        for damage in [None, Some(""), Some("garbage")] {
            let file = state.path().join(NODE_ID);
            match damage {
                None => fs::remove_file(&file).unwrap(),
                Some(text) => fs::write(&file, text).unwrap(),
            }
            assert_eq!(places.node(&running()).await.unwrap(), id, "from a copy");
            assert_eq!(fs::read_to_string(&file).unwrap().trim(), id.to_string(), "and written again");
        }
        fs::remove_file(state.path().join(NODE_ID)).unwrap();
        fs::remove_file(run.path().join(NODE_ID)).unwrap();
        assert_eq!(places.node(&running()).await.unwrap(), id, "from the local store");
    }

    #[tokio::test]
    async fn without_any_copy_what_runs_here_is_nobody_elses() {
        let Dirs { places, .. } = dirs();
        let error = places.node(&running()).await.unwrap_err().to_string();
        assert!(
            error.contains("1 sandboxes of ovnet in its kernel") && error.contains("ovagent cleanup"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn who_deletes_the_file_on_a_host_that_has_nothing_gets_another_id() {
        let Dirs { state, places, .. } = dirs();
        let id = places.node(&Evidence::default()).await.unwrap();
        fs::remove_file(state.path().join(NODE_ID)).unwrap();
        assert_ne!(places.node(&Evidence::default()).await.unwrap(), id);
        fs::write(state.path().join(NODE_ID), "garbage").unwrap();
        let error = places.node(&Evidence::default()).await.unwrap_err().to_string();
        assert!(error.contains("does not contain a node id (\"garbage\")"), "{error}");
    }
}
