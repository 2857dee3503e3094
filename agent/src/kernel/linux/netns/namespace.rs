//! A network namespace during one call of the room: its file, a netlink socket in it, and the indexes of its links.
//!
//! A namespace is entered on throw-away threads only. Opening it keeps it (and its VNI) alive, so what is opened here is
//! dropped at the end of the call.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::statfs::NSFS_MAGIC,
};

use crate::{
    kernel::{
        linux::{
            link::row,
            refusal::Refusal,
            rtnl::{attributes::u32_at, links, socket::Rtnl},
        },
        opening,
    },
    model::IfName,
    plan::state::{LinkKind, Netns},
};

/// An open namespace.
pub(in crate::kernel::linux) struct Namespace {
    /// None: that of the threads that use it, the agent's own as a rule.
    file: Option<File>,
    /// A socket in it.
    pub(in crate::kernel::linux) rtnl: Rtnl,
    /// Indexes of links, and whether they are bridges.
    indexes: HashMap<IfName, (u32, bool)>,
}

/// The path of a namespace's file; `None` is the agent's own.
pub(in crate::kernel::linux) fn path(dir: &Path, netns: &Netns) -> Option<PathBuf> {
    match netns {
        Netns::Host => None,
        Netns::Named(name) => Some(dir.join(name.as_str())),
        Netns::Path(path) => Some(path.clone()),
    }
}

/// The namespace's file, or `None` if there is none at this path (any more).
pub(in crate::kernel::linux) fn open_file(path: &Path) -> Result<Option<File>, Refusal> {
    match opening::on(NSFS_MAGIC, path) {
        // None: a file that no namespace is mounted on, as a reboot or a crash in the making leaves it, or nothing of the kind.
        Ok(file) => Ok(file),
        Err(error) => {
            let refusal = Refusal::from(error);
            if leads_nowhere(&refusal) { Ok(None) } else { Err(refusal) }
        }
    }
}

/// The inode, on nsfs, of the namespace at this path. None: there is none, or it cannot be seen; a plain file, which is there for a
/// moment before a namespace is mounted on it, is none either.
pub(in crate::kernel::linux) fn inode_at(path: &Path) -> Option<u64> {
    inode(path).ok()?
}

/// Inode of the namespace at this path; None: there is none. Nothing is opened: it is asked for often.
pub(in crate::kernel::linux) fn inode(path: &Path) -> Result<Option<u64>, Refusal> {
    match fs::metadata(path) {
        Ok(file) => Ok((file.dev() == nsfs()?).then_some(file.ino())),
        Err(error) => match Refusal::from(error) {
            refusal if leads_nowhere(&refusal) => Ok(None),
            refusal => Err(refusal),
        },
    }
}

/// Whether there is nothing at a path: also where it goes through a file, or through links that lead back to each other.
fn leads_nowhere(refusal: &Refusal) -> bool {
    refusal.is_absence() || [Errno::ENOTDIR, Errno::ELOOP].contains(&refusal.errno)
}

/// The device of nsfs, which all namespaces are on: the agent's own is one.
pub(in crate::kernel::linux) fn nsfs() -> io::Result<u64> {
    static NSFS: OnceLock<u64> = OnceLock::new();
    if let Some(known) = NSFS.get() {
        return Ok(*known);
    }
    let device = fs::metadata("/proc/self/ns/net")?.dev();
    Ok(*NSFS.get_or_init(|| device))
}

impl Namespace {
    /// Open it, or return `None` if there is no such namespace.
    pub(in crate::kernel::linux) fn open(dir: &Path, netns: &Netns) -> Result<Option<Self>, Refusal> {
        let Some(path) = path(dir, netns) else { return Self::here().map(Some) };
        open_file(&path)?.map(Self::from_file).transpose()
    }

    /// That of the calling thread, which alone may use it if that is not the agent's own.
    pub(in crate::kernel::linux) fn here() -> Result<Self, Refusal> {
        Ok(Self { file: None, rtnl: Rtnl::open()?, indexes: HashMap::new() })
    }

    /// Open the one of this nsfs file.
    pub(in crate::kernel::linux) fn from_file(file: File) -> Result<Self, Refusal> {
        let rtnl = inside(&file, Rtnl::open)??;
        Ok(Self { file: Some(file), rtnl, indexes: HashMap::new() })
    }

    /// Do `work` on a thread in it.
    pub(in crate::kernel::linux) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, Refusal> {
        match &self.file {
            None => Ok(work()),
            Some(file) => inside(file, work),
        }
    }

    /// Its descriptor, for IFLA_NET_NS_FD; None: that of the threads that use it.
    pub(in crate::kernel::linux) fn descriptor(&self) -> Option<RawFd> {
        self.file.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// The index of the link with this name.
    pub(in crate::kernel::linux) fn index(&mut self, name: IfName) -> Result<u32, Refusal> {
        Ok(self.index_and_bridge(name)?.0)
    }

    /// The same, and whether it is a bridge.
    pub(in crate::kernel::linux) fn index_and_bridge(
        &mut self,
        name: IfName,
    ) -> Result<(u32, bool), Refusal> {
        if let Some(known) = self.indexes.get(&name) {
            return Ok(*known);
        }
        let body = self.link(name)?;
        let index = u32_at(&body, 4).ok_or_else(|| Refusal::new(Errno::EIO, "short answer"))?;
        let bridge = row::parse(&body).is_some_and(|row| row.link.kind == LinkKind::Bridge);
        self.indexes.insert(name, (index, bridge));
        Ok((index, bridge))
    }

    /// The kernel's description of the link with this name (struct ifinfomsg and attributes).
    pub(in crate::kernel::linux) fn link(&mut self, name: IfName) -> Result<Vec<u8>, Refusal> {
        self.rtnl.get(links::named(name))
    }

    /// Forget the indexes: links come or go.
    pub(in crate::kernel::linux) fn forget_links(&mut self) {
        self.indexes.clear();
    }
}

/// Do `work` on a throw-away thread in this namespace.
pub(in crate::kernel::linux) fn inside<T: Send>(
    file: &File,
    work: impl FnOnce() -> T + Send,
) -> Result<T, Refusal> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })?;
        thread
            .join()
            .unwrap_or_else(|_panic| Err(Refusal::new(Errno::EIO, "the thread in the namespace died")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_is_no_namespace() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web");
        assert_eq!(inode_at(&file), None);
        fs::write(&file, "").unwrap();
        assert_eq!(inode_at(&file), None);
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        for nowhere in [circle, file.join("below")] {
            assert_eq!(inode(&nowhere).unwrap(), None, "{}", nowhere.display());
            assert!(open_file(&nowhere).unwrap().is_none(), "{}", nowhere.display());
        }
        let own = Path::new("/proc/self/ns/net");
        assert_eq!(inode_at(own), Some(fs::metadata(own).unwrap().ino()));
    }
}
