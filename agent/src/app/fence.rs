//! What the unit withholds from the agent, for `ovagent cleanup`, which people and packages run outside of it.
//!
//! Cleanup removes what it finds written down. Whoever wrote that must not reach anything but the agent's own places by it: a
//! record with a path in it, a link in place of a directory.

use std::{
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};

/// The capabilities that the unit leaves, and why, are in `deploy/systemd/ovagent.service`.
const LEFT: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_PTRACE);
/// Where the host's settings are.
const SETTINGS: &str = "/proc/sys/net";

/// Shut the calling thread in, and those that it starts from now on: of the file system it can write what is below these places
/// and the settings of the network, and of its capabilities it keeps the unit's.
///
/// # Errors
/// A mount, or a capability, could not be changed; the thread may be shut in by half.
pub(super) fn shut_in(open: &[&Path]) -> Result<()> {
    let open: Vec<PathBuf> = open
        .iter()
        .copied()
        .chain([Path::new(SETTINGS)])
        .filter_map(|place| place.canonicalize().ok())
        .collect();
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have a mount namespace of its own")?;
    // What the host mounts comes in; nothing goes out.
    change(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SLAVE).context("cannot leave the host's mounts")?;
    for place in &open {
        mount(Some(place), place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .with_context(|| format!("cannot keep {} open", place.display()))?;
    }
    let table = fs::read("/proc/thread-self/mountinfo").context("cannot read this thread's mounts")?;
    for (place, flags) in mounts(&table) {
        if open.iter().any(|open| place.starts_with(open)) {
            continue;
        }
        let closed = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
        match change(&place, closed) {
            // Something else is mounted upon it, or above: it cannot be reached.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("cannot close {} to writing", place.display()));
            }
        }
    }
    give_up_capabilities().context("cannot give up capabilities")
}

fn change(place: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, place, None::<&str>, flags, None::<&str>)
}

fn give_up_capabilities() -> rustix::io::Result<()> {
    // What is given up does not come back by running a program, either.
    set_no_new_privs(true)?;
    let left = capabilities(None)?.permitted & LEFT;
    set_capabilities(
        None,
        CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() },
    )
}

/// The mounts in a `mountinfo` (proc_pid_mountinfo(5)), and of each the flags that a change must repeat to keep them.
fn mounts(table: &[u8]) -> Vec<(PathBuf, MsFlags)> {
    let lines = table.split(|byte| *byte == b'\n');
    let parsed = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let (place, options) = (fields.nth(4)?, fields.next()?);
        let place = std::ffi::OsString::from_vec(unescaped(place)).into();
        Some((place, options.split(|byte| *byte == b',').fold(MsFlags::empty(), |all, one| all | flag(one))))
    });
    parsed.collect()
}

fn flag(option: &[u8]) -> MsFlags {
    match option {
        b"nosuid" => MsFlags::MS_NOSUID,
        b"nodev" => MsFlags::MS_NODEV,
        b"noexec" => MsFlags::MS_NOEXEC,
        b"noatime" => MsFlags::MS_NOATIME,
        b"nodiratime" => MsFlags::MS_NODIRATIME,
        b"relatime" => MsFlags::MS_RELATIME,
        _ => MsFlags::empty(),
    }
}

/// White space and backslashes are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), field);
    while let Some((first, after)) = rest.split_first() {
        let escape = after.get(..3).filter(|_| *first == b'\\');
        let octal = escape.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_flags_of_mounts_are_read_as_the_kernel_writes_them() {
        let table = b"24 31 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw\n\
                      31 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      40 31 0:30 /a /mnt/with\\040blank\\134s ro,noatime - tmpfs tmpfs rw\n";
        let (nosuid, nodev) = (MsFlags::MS_NOSUID, MsFlags::MS_NODEV);
        assert_eq!(
            mounts(table),
            [
                ("/proc".into(), nosuid | nodev | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME),
                ("/".into(), MsFlags::empty()),
                ("/mnt/with blank\\s".into(), MsFlags::MS_NOATIME)
            ]
        );
        assert_eq!(unescaped(br"a\b\04"), br"a\b\04");
    }
}
