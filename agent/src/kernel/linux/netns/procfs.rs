//! Where values below /proc/sys are read: in a procfs that is mounted nowhere and is replaced now and then.
//!
//! All namespaces of the host have their values under the same few names in /proc/sys/net. The kernel keeps each name that was
//! looked up, and goes through those of all namespaces to find one: with 1,000 namespaces that takes 0.2 ms in /proc. A procfs that
//! few namespaces were looked up in has few names.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

/// How many namespaces are looked up in one: mounting it costs as much as some five of them.
const LOOKS: u32 = 32;

/// The procfs that is used now, for all who read.
#[derive(Clone, Debug, Default)]
pub(in crate::kernel::linux) struct Procfs(Arc<Mutex<Option<Open>>>);

#[derive(Debug)]
struct Open {
    procfs: Arc<OwnedFd>,
    /// How many more namespaces are looked up in it.
    left: u32,
}

impl Procfs {
    /// One for a look at one namespace: a private one, or /proc where that may not be had (before Linux 5.8, or under a filter
    /// of system calls that is older than this). None: there is no /proc either.
    pub(in crate::kernel::linux) fn take(&self) -> Option<Arc<OwnedFd>> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = current.as_mut().filter(|open| open.left > 0) {
            open.left -= 1;
            return Some(Arc::clone(&open.procfs));
        }
        let fresh = mounted().or_else(|_refused| of_the_process());
        *current = fresh.ok().map(|procfs| Open { procfs: Arc::new(procfs), left: LOOKS - 1 });
        current.as_ref().map(|open| Arc::clone(&open.procfs))
    }
}

fn mounted() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let only_read = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, only_read)
}

fn of_the_process() -> rustix::io::Result<OwnedFd> {
    openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Open a file of it to read.
pub(super) fn open(procfs: BorrowedFd<'_>, path: &str) -> rustix::io::Result<OwnedFd> {
    openat(procfs, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
