//! What a process in a sandbox finds under /etc: hosts, resolv.conf, hostname.
//!
//! They lie in the run directory, from where `ovctl run` and `exec` mount them, and for namespaces that we named also
//! where `ip netns exec` looks for them. A mount shows the old inode for ever, so each is rewritten in place.

mod text;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};
use tokio_util::sync::CancellationToken;

use self::text::{Context, MARK, Texts, texts};
use super::super::Service;
use crate::{
    intent::{Changed, Intent, Touched},
    kernel::{Kernel, opening},
    model::{Endpoint, Name, NodeId, Sandbox},
};

/// How long after a change others are waited for.
const QUIET: Duration = Duration::from_millis(100);
/// Time between two looks at the host's resolv.conf.
const HOST: Duration = Duration::from_secs(2);

/// Whose files may say something else now.
#[derive(Debug, PartialEq, Eq)]
enum Stale {
    /// Everybody's.
    All,
    /// These sandboxes'.
    Of(BTreeSet<Name>),
}

impl<K: Kernel> Service<K> {
    /// Where a sandbox's files are.
    pub fn files_dir(&self, sandbox: &Name) -> PathBuf {
        self.settings.run_dir.join("sandboxes").join(sandbox.as_str())
    }

    /// Write a sandbox's files anew. A failure is told in the log alone: the network works without them.
    pub(in crate::service) async fn write_files(&self, name: &Name) {
        let Some((sandbox, texts)) = self.texts_of(name) else { return };
        let dirs = [(Some(self.files_dir(name)), false), (self.etc_dir(&sandbox), true)];
        let write = move || {
            for (dir, foreign) in dirs {
                let Some(dir) = dir else { continue };
                for (file, text) in texts.files() {
                    write_one(&sandbox.name, &dir, file, text, foreign);
                }
            }
        };
        // All at once: an attach waits for it.
        if let Err(error) = tokio::task::spawn_blocking(write).await {
            tracing::error!(%error, sandbox = %name, "the task that writes a sandbox's files failed");
        }
    }

    fn texts_of(&self, name: &Name) -> Option<(Sandbox, Texts)> {
        let (host, _) = self.host_conf.read();
        let around = Context {
            me: self.world.me,
            defaults: &self.settings.dns,
            host: &host,
            host_gateways: &self.settings.host_gateways,
        };
        self.world.read(|intent| {
            let sandbox = intent.sandboxes().get(name).filter(|sandbox| sandbox.shares.is_none())?;
            Some((sandbox.clone(), texts(intent, sandbox, &around)))
        })
    }

    /// Where `ip netns exec` looks for files; only for a namespace that has its name from us.
    fn etc_dir(&self, sandbox: &Sandbox) -> Option<PathBuf> {
        (!sandbox.adopted).then(|| self.settings.netns_etc_dir.join(sandbox.name.as_str()))
    }

    /// Remove a sandbox's files; what others have put beside them stays.
    pub(in crate::service) async fn remove_files(&self, name: &Name) {
        let _warned = remove_sandbox_files(&self.files_dir(name), &self.settings.netns_etc_dir, name).await;
    }

    /// Write the files of every sandbox: after a reboot the run directory is empty.
    pub async fn write_all_files(&self) {
        let names: Vec<Name> = self.world.read(|intent| intent.sandboxes().keys().cloned().collect());
        for name in names {
            self.write_files(&name).await;
        }
    }

    /// Write files again when what they say has changed, until stopped. To be called once all is known.
    pub async fn keep_files(&self, stop: CancellationToken) {
        let mut changes = self.world.changes();
        let (mut host, mut stale) = (self.host_conf.read().1, Stale::All);
        let mut due = Some(Instant::now());
        loop {
            let pause = due.unwrap_or_else(|| Instant::now() + HOST);
            // Each arm takes one thing whole; files that are written by halves are written again after the next start.
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changes.recv() => {
                    self.world.read(|intent| stale.note(changed, intent, self.world.me));
                    if due.is_none() && stale != Stale::Of(BTreeSet::new()) {
                        due = Some(Instant::now() + QUIET);
                    }
                }
                () = tokio::time::sleep_until(pause) => {
                    let now = self.host_conf.read().1;
                    if std::mem::replace(&mut host, now) != now {
                        stale = Stale::All;
                    }
                    due = None;
                    match std::mem::replace(&mut stale, Stale::Of(BTreeSet::new())) {
                        Stale::All => self.write_all_files().await,
                        Stale::Of(names) => for name in names {
                            self.write_files(&name).await;
                        }
                    }
                }
            }
        }
    }
}

impl Stale {
    /// Also those whom a change concerns.
    fn note(&mut self, changed: Result<Changed, broadcast::error::RecvError>, intent: &Intent, me: NodeId) {
        let Self::Of(names) = self else { return };
        let in_network = |network, concerned: &dyn Fn(&Endpoint) -> bool| {
            let view = intent.network(network);
            let all = view.into_iter().flat_map(|view| view.endpoints_on(me));
            all.filter(|endpoint| concerned(endpoint)).filter_map(|it| it.sandbox.clone()).collect::<Vec<_>>()
        };
        match changed.map(|changed| (changed.touched, changed.name)) {
            Err(broadcast::error::RecvError::Lagged(_)) => *self = Self::All,
            Ok((Touched::Sandbox(name), _)) => drop(names.insert(name)),
            Ok((Touched::Endpoint(network, id), linked)) => {
                let known = intent.network(network).and_then(|view| view.endpoints().get(&id));
                names.extend(known.and_then(|endpoint| endpoint.sandbox.clone()));
                // Those that have a name of their own for it.
                names.extend(in_network(network, &|other| {
                    other.links.iter().any(|link| link.endpoint.as_str() == linked)
                }));
            }
            Ok((Touched::Network(network) | Touched::Leg(network), _)) => {
                names.extend(in_network(network, &|_| true));
            }
            Ok((Touched::Member(..) | Touched::Node(_) | Touched::Alive(_), _))
            | Err(broadcast::error::RecvError::Closed) => {}
        }
    }
}

fn write_one(sandbox: &Name, dir: &Path, file: &str, text: &str, foreign: bool) {
    match replace(dir, file, text, foreign) {
        Ok(true) => {}
        Ok(false) => {
            tracing::debug!(%sandbox, path = %dir.join(file).display(), "kept a file that is not ours");
        }
        Err(error) => {
            tracing::warn!(%sandbox, file, dir = %dir.display(), %error, "cannot write a sandbox's file");
        }
    }
}

/// Write a file, in place where it is there already. False: it is there, and not ours to change.
fn replace(dir: &Path, file: &str, text: &str, foreign: bool) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    let path = dir.join(file);
    match opening::read(&path) {
        Ok(there) if there == text.as_bytes() => return Ok(true),
        Ok(there) if foreign && !may_be_ours(&there) => return Ok(false),
        Err(error) if foreign && error.kind() != io::ErrorKind::NotFound => return Ok(false),
        Ok(_) | Err(_) => {}
    }
    opening::write(&path, text.as_bytes())?;
    Ok(true)
}

/// Whether a file has our mark, or nothing: a host that lost its power leaves files empty that were written shortly before.
fn may_be_ours(text: &[u8]) -> bool {
    text.is_empty() || text.starts_with(MARK.as_bytes())
}

/// Remove a sandbox's files: all of them in `dir`, and ours below `netns_etc_dir`. Whether all went; a failure is in the
/// log.
pub async fn remove_sandbox_files(dir: &Path, netns_etc_dir: &Path, name: &Name) -> bool {
    let (own, etc) = (dir.to_owned(), netns_etc_dir.join(name.as_str()));
    let gone = tokio::task::spawn_blocking(move || {
        let hostname = opening::read(&own.join("hostname")).unwrap_or_default();
        remove_ours(&etc, &hostname)?;
        absent(fs::remove_dir_all(own))
    });
    if let Err(error) = gone.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        tracing::warn!(sandbox = %name, %error, "cannot remove a sandbox's files");
        return false;
    }
    true
}

/// Remove the files of ours in `dir`, and itself if nothing else is there.
fn remove_ours(dir: &Path, hostname: &[u8]) -> io::Result<()> {
    for file in ["hosts", "resolv.conf", "hostname"] {
        let path = dir.join(file);
        let Ok(there) = opening::read(&path) else { continue };
        if may_be_ours(&there) || file == "hostname" && there == hostname {
            absent(fs::remove_file(&path))?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        done => absent(done),
    }
}

fn absent(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_inode_and_what_others_made_stays() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("web");
        let ours = |text: &str| format!("{MARK} test\n{text}");
        assert!(replace(&dir, "hosts", &ours("a"), true).unwrap());
        let inode = || std::fs::metadata(dir.join("hosts")).unwrap().ino();
        let before = inode();
        assert!(replace(&dir, "hosts", &ours("b"), true).unwrap());
        assert_eq!((inode(), std::fs::read_to_string(dir.join("hosts")).unwrap()), (before, ours("b")));
        std::fs::write(dir.join("resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
        assert!(!replace(&dir, "resolv.conf", &ours("c"), true).unwrap());
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(!replace(&dir, "fifo", &ours("c"), true).unwrap(), "nor is it waited for");
        std::fs::remove_file(fifo).unwrap();
        assert!(replace(&dir, "hostname", "web\n", true).unwrap());
        std::fs::write(dir.join("hosts"), "").unwrap();
        assert!(replace(&dir, "hosts", &ours("d"), true).unwrap(), "what a loss of power left empty");
        std::fs::write(dir.join("hosts"), "").unwrap();
        remove_ours(&dir, b"web\n").unwrap();
        let left: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["resolv.conf"], "it is somebody else's");
        std::fs::remove_file(dir.join("resolv.conf")).unwrap();
        remove_ours(&dir, b"web\n").unwrap();
        assert!(!dir.exists());
        remove_ours(&dir, b"web\n").unwrap();
    }
}
