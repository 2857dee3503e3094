//! One agent for a state directory: a lock on a file in it, which holds the pid for people.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::Path,
};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// Held as long as the process lives; the kernel gives it back whatever the process dies of.
#[derive(Debug)]
pub(super) struct Lock {
    _held: Flock<File>,
}

/// Take the state directory, making it if need be.
pub(super) fn take(state_dir: &Path) -> Result<Lock> {
    if state_dir.exists() && !state_dir.is_dir() {
        bail!(
            "the state directory {} is not a directory: choose a different one with --state-dir",
            state_dir.display()
        );
    }
    fs::create_dir_all(state_dir)
        .with_context(|| format!("cannot make the state directory {}", state_dir.display()))?;
    let path = state_dir.join("lock");
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut held) => {
            held.set_len(0)
                .and_then(|()| held.rewind())
                .and_then(|()| writeln!(held, "{}", std::process::id()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(Lock { _held: held })
        }
        Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            bail!(
                "the state directory {} is in use by another ovagent (pid {}): stop it, or start this one \
                 with a different --state-dir",
                state_dir.display(),
                holder.trim()
            )
        }
        Err((_, error)) => bail!("cannot lock {}: {error}", path.display()),
    }
}
