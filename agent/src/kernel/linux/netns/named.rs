//! Named network namespaces, as `ip netns` makes and sees them: an empty file with the namespace mounted on it.
//!
//! The namespace is complete (lo up and marked) before it gets its name, and a file without a namespace is
//! what a crash left behind: a name of ours never means a half-made namespace.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::namespace::{Namespace, nsfs, open_file};
use crate::{
    kernel::linux::{
        link::{
            find, removal,
            row::{LinkRow, parse},
        },
        refusal::Refusal,
        rtnl::{links, socket::Rtnl},
    },
    model::{IfName, Name},
    plan::{ownership::Mark, state::LinkKind},
};

/// The index of `lo` in every namespace (LOOPBACK_IFINDEX, net/loopback.h).
const LOOPBACK: u32 = 1;

/// How long the lock on the directory is waited for.
const LOCK: Duration = Duration::from_secs(1);

/// Make a namespace with this name.
pub(in crate::kernel::linux) fn create(dir: &Path, name: &Name, mark: &Mark) -> Result<(), Refusal> {
    prepare(dir)?;
    let path = dir.join(name.as_str());
    match exclusive(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if open_file(&path)?.is_some() {
                return Err(Refusal::new(
                    Errno::EEXIST,
                    format!("a network namespace named {name} exists already"),
                ));
            }
            fs::remove_file(&path)?;
            exclusive(&path)?;
        }
        outcome => {
            outcome?;
        }
    }
    let made = in_fresh_namespace(|| {
        Rtnl::open()?.apply(links::set_up_and_mark(LOOPBACK, mark.to_string()))?;
        // Our own thread's: the process's namespace is another one.
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _second = fs::remove_file(&path);
    }
    made
}

/// Remove the namespace with this name, if it carries a mark of ours; success if there is none.
pub(in crate::kernel::linux) fn remove(dir: &Path, name: &Name) -> Result<(), Refusal> {
    let path = dir.join(name.as_str());
    if let Some(file) = open_file(&path)? {
        let mut namespace = Namespace::from_file(file)?;
        if loopback_mark(&mut namespace)?.is_none() {
            return Err(Refusal::new(
                Errno::EINVAL,
                format!(
                    "it does not have our mark: if nobody needs it, remove it with: ip netns delete {name}"
                ),
            ));
        }
        remove_links(&mut namespace)?;
        drop(namespace);
        umount2(&path, MntFlags::MNT_DETACH)?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map_err(Refusal::from),
    }
}

/// The namespaces in the directory with their marks, sorted by name.
pub(in crate::kernel::linux) fn list(dir: &Path) -> Result<Vec<(Name, Option<Mark>)>, Refusal> {
    let mut observed = Vec::new();
    for name in files(dir)? {
        if let Some(file) = open_file(&dir.join(name.as_str()))? {
            observed.push((name, loopback_mark(&mut Namespace::from_file(file)?)?));
        }
    }
    observed.sort();
    Ok(observed)
}

/// The names in the directory that a namespace is mounted on, with its inode. No namespace is entered.
pub(in crate::kernel::linux) fn names(dir: &Path) -> Result<BTreeMap<Name, u64>, Refusal> {
    let nsfs = nsfs()?;
    let mut observed = BTreeMap::new();
    for name in files(dir)? {
        match fs::metadata(dir.join(name.as_str())) {
            Ok(file) if file.dev() == nsfs => {
                observed.insert(name, file.ino());
            }
            // What a reboot or a crash in the making leaves.
            Ok(_plain) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(observed)
}

/// The files in the directory whose names can be a namespace's. We never made a symbolic link; it may lead to
/// a namespace that has its name elsewhere, or in a circle.
fn files(dir: &Path) -> Result<Vec<Name>, Refusal> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        // Nobody has made one yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_symlink() {
            names.extend(entry.file_name().to_str().and_then(|name| name.parse::<Name>().ok()));
        }
    }
    Ok(names)
}

/// Take back what [`prepare`] did to the directory, if there is no name in it.
pub(in crate::kernel::linux) fn tidy(dir: &Path) -> Result<(), Refusal> {
    let empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if empty {
        match umount2(dir, MntFlags::MNT_DETACH) {
            // Not a mount point: somebody made it without us.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(Refusal::new(error, "cannot unmount it")),
        }
        match fs::remove_dir(dir) {
            // Another mount namespace has it mounted: it is not ours alone.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            removed => removed?,
        }
    }
    Ok(())
}

/// The directory, as a mount of its own that is shared with other mount namespaces: a namespace unmounted here then
/// goes there too.
fn prepare(dir: &Path) -> Result<(), Refusal> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    let share = || mount(None::<&str>, dir, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        Err(Errno::EINVAL) => {}
        outcome => return Ok(outcome?),
    }
    // ip netns takes the same lock for the same purpose. So may anybody who can read the directory, for ever.
    let _lock = lock(dir)?;
    match share() {
        // It is no mount yet.
        Err(Errno::EINVAL) => {
            mount(Some(dir), dir, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
            share()?;
        }
        outcome => outcome?,
    }
    Ok(())
}

/// The lock on a directory, or `None` if another process holds it.
fn lock(dir: &Path) -> Result<Option<Flock<File>>, Refusal> {
    let mut file = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(dir)?;
    let end = Instant::now() + LOCK;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((_, errno)) if errno != Errno::EWOULDBLOCK => return Err(errno.into()),
            Err(_) if Instant::now() >= end => return Ok(None),
            Err((back, _)) => file = back,
        }
        thread::sleep(LOCK / 50);
    }
}

fn exclusive(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Do `work` on a throw-away thread in a new namespace, which is gone afterwards unless something holds it.
pub(in crate::kernel::linux) fn in_fresh_namespace(
    work: impl FnOnce() -> Result<(), Refusal> + Send,
) -> Result<(), Refusal> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            work()
        })?;
        thread
            .join()
            .unwrap_or_else(|_panic| Err(Refusal::new(Errno::EIO, "the thread in the namespace died")))
    })
}

fn loopback_mark(namespace: &mut Namespace) -> Result<Option<Mark>, Refusal> {
    Ok(parse(&namespace.link(IfName::literal("lo"))?).and_then(|row| row.link.mark))
}

/// Remove our devices now: if only the namespace were removed, they would go some 0.1 s later, and keep VNIs,
/// Ethernet addresses on a parent, and the names of the veths' other ends until then.
fn remove_links(namespace: &mut Namespace) -> Result<(), Refusal> {
    let ours = |row: &LinkRow| {
        !row.loopback
            && row.link.mark.is_some()
            && (row.lower.is_some() || matches!(row.link.kind, LinkKind::Vxlan(_) | LinkKind::Veth))
    };
    let rows = find::all(namespace)?;
    let indexes: Vec<u32> = rows.iter().filter(|row| ours(row)).map(|row| row.index).collect();
    removal::remove(namespace, &indexes).into_iter().collect()
}
