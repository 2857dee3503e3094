//! Mounts that the host must see, from an agent that has a mount namespace of its own, as a hardened unit has.
//!
//! The name of a network namespace is a mount. Made in a mount namespace that systemd made for a unit, it stays there: such a
//! one hears of the host's mounts and tells of none. So names are given and taken on a short-lived thread in the host's.
//! The agent still sees what the host mounts: looking goes on where the agent is.

use std::{
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
};

use crate::kernel::linux::refusal::Refusal;

/// Where this thread is, and with it the agent.
const OWN: &str = "/proc/thread-self/ns/mnt";

/// The mount namespace in which names are given and taken.
#[derive(Clone, Debug, Default)]
pub(in crate::kernel::linux) struct Mounts {
    /// Its file; `None` is the agent's own.
    path: Option<PathBuf>,
}

impl Mounts {
    /// The one of this file (`/proc/1/ns/mnt`); None: the agent's own.
    pub(in crate::kernel::linux) fn of(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Do `work` in it; on a throw-away thread, unless it is the agent's own.
    pub(in crate::kernel::linux) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, Refusal> + Send,
    ) -> Result<T, Refusal> {
        let Some(path) = &self.path else { return work() };
        let file = File::open(path).map_err(|error| refused(path, Refusal::from(error).errno))?;
        if file.metadata()?.ino() == std::fs::metadata(OWN)?.ino() {
            return work();
        }
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("mounts".into()).spawn_scoped(scope, || {
                // Threads share root and working directory, and what is shared cannot go elsewhere (setns(2)).
                unshare(CloneFlags::CLONE_FS).map_err(|errno| refused(path, errno))?;
                setns(&file, CloneFlags::CLONE_NEWNS).map_err(|errno| refused(path, errno))?;
                work()
            })?;
            thread.join().unwrap_or_else(|_panic| {
                Err(Refusal::new(Errno::EIO, "the thread in the mount namespace died"))
            })
        })
    }
}

/// Not EPERM, whose text would be about other capabilities.
fn refused(path: &Path, errno: Errno) -> Refusal {
    let errno_now = if errno == Errno::EPERM { Errno::EACCES } else { errno };
    let text = format!(
        "cannot enter the mount namespace {} ({}): this needs CAP_SYS_ADMIN, CAP_SYS_CHROOT and \
         CAP_SYS_PTRACE, and under systemd `mnt` in RestrictNamespaces=",
        path.display(),
        errno.desc()
    );
    Refusal::new(errno_now, text)
}

#[cfg(test)]
mod tests {
    use std::{fs, process};

    use nix::mount::{MsFlags, mount};

    use super::{super::named, *};
    use crate::{
        kernel::linux::netns::test_netns,
        model::Name,
        plan::ownership::{Mark, Unit},
    };

    const NONE: Option<&str> = None;

    /// Do `work` on a thread in a mount namespace such as systemd makes for a unit: a slave of the one around it.
    fn fenced<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
                mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// A directory with shared mount propagation, as /run has it.
    fn shared_directory() -> PathBuf {
        let dir = tempfile::tempdir().unwrap().keep();
        mount(Some("test"), &dir, Some("tmpfs"), MsFlags::empty(), NONE).unwrap();
        mount(NONE, &dir, NONE, MsFlags::MS_SHARED, NONE).unwrap();
        dir.join("netns")
    }

    fn mark() -> Mark {
        Mark::new(Unit::Host, "netns")
    }

    fn names(dir: &Path) -> Vec<String> {
        let named = named::list(dir).unwrap();
        named.into_iter().map(|(name, _mark)| name.to_string()).collect()
    }

    #[test]
    fn a_name_given_and_taken_in_a_fence_is_so_on_both_sides() {
        test_netns::run(|| {
            let dir = shared_directory();
            let name: Name = "web".parse().unwrap();
            let outside = Mounts::of(Some(format!("/proc/{}/ns/mnt", process::id()).into()));
            fenced(|| {
                outside.run(|| named::create(&dir, &name, &mark())).unwrap();
                assert_eq!(names(&dir), ["web"], "inside");
            });
            assert_eq!(names(&dir), ["web"], "outside");
            fenced(|| {
                assert_eq!(names(&dir), ["web"], "in another one");
                outside.run(|| named::remove(&dir, &name)).unwrap();
                assert!(names(&dir).is_empty() && !dir.join("web").exists(), "inside");
            });
            assert!(names(&dir).is_empty(), "outside");
        });
    }

    #[test]
    fn a_name_given_without_leaving_the_fence_is_seen_by_nobody_else() {
        test_netns::run(|| {
            let dir = shared_directory();
            fenced(|| named::create(&dir, &"web".parse().unwrap(), &mark())).unwrap();
            assert!(names(&dir).is_empty());
        });
    }

    #[test]
    fn one_that_cannot_be_entered_is_named_with_what_it_takes() {
        let missing = Mounts::of(Some("/proc/0/ns/mnt".into())).run(|| Ok(())).unwrap_err().to_string();
        assert!(missing.contains("/proc/0/ns/mnt (No such file or directory)"), "{missing}");
        // A file that is no mount namespace.
        let other = Mounts::of(Some("/proc/self/ns/uts".into())).run(|| Ok(())).unwrap_err().to_string();
        assert!(other.contains("CAP_SYS_CHROOT"), "{other}");
    }

    #[test]
    fn the_own_one_needs_no_thread_and_no_privilege() {
        let here = thread::current().id();
        let there = Mounts::of(Some(OWN.into())).run(|| Ok(thread::current().id())).unwrap();
        assert_eq!(here, there);
        assert!(fs::metadata(OWN).is_ok());
    }
}
