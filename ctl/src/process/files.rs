//! The files that a sandbox has of its own in /etc, mounted over those of the host.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use super::enter::{attach, because};
use crate::output::say;

/// What each sandbox has of its own.
const FILES: [&str; 3] = ["hosts", "resolv.conf", "hostname"];

/// Mounts what `dir` has of the files over those in `etc`, in this process's mount namespace.
///
/// # Errors
/// One that is there cannot be mounted over.
pub(super) fn mount_over(etc: &Path, dir: &Path) -> Result<(), String> {
    let own: Vec<&str> = FILES.into_iter().filter(|file| dir.join(file).exists()).collect();
    let absent = |file: &str| {
        fs::symlink_metadata(etc.join(file)).is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
    };
    let missing: Vec<&str> = own.iter().copied().filter(|file| absent(file)).collect();
    if !missing.is_empty() {
        let names = missing.join(", ");
        match lay_under(etc, &missing) {
            Ok(()) => say(&format!(
                "warning: {} of the host has no {names}: it is read-only for this command, which gets the \
                 sandbox's",
                etc.display()
            )),
            Err(cause) => {
                say(&format!("warning: {} has no {names}, and they cannot be added: {cause}", etc.display()));
            }
        }
    }
    for file in own {
        let (source, target) = (dir.join(file), etc.join(file));
        if !absent(file) {
            cover(&source, &target).map_err(because(format!(
                "mount {} over {}",
                source.display(),
                target.display()
            )))?;
        }
    }
    Ok(())
}

/// Mounts `source` over `target`; over a symbolic link itself, since what it leads to may be absent, or may be replaced at any
/// time, which would take the mount away (systemd-resolved writes its stub-resolv.conf so).
fn cover(source: &Path, target: &Path) -> nix::Result<()> {
    if fs::symlink_metadata(target).is_ok_and(|meta| meta.is_symlink()) {
        let link = open_path(target, OFlag::O_NOFOLLOW);
        let over =
            link.as_ref().map(|link| attach(Some(source), &by_descriptor(link), None, MsFlags::MS_BIND));
        if matches!(over, Ok(Ok(()))) {
            return Ok(());
        }
    }
    attach(Some(source), target, None, MsFlags::MS_BIND)
}

/// Mounts an overlay over `dir` that has what `dir` has, and empty files with these names to mount over.
fn lay_under(dir: &Path, names: &[&str]) -> Result<(), String> {
    let hidden = open_path(dir, OFlag::O_DIRECTORY).map_err(because(format!("open {}", dir.display())))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some("mode=755")).map_err(because("mount a tmpfs"))?;
    let laid = names
        .iter()
        .try_for_each(|name| File::create(dir.join(name)).map(drop))
        .map_err(because("make empty files"))
        .and_then(|()| {
            let layers = format!("lowerdir={}:{}", dir.display(), by_descriptor(&hidden).display());
            mount(Some("overlay"), dir, Some("overlay"), flags | MsFlags::MS_RDONLY, Some(layers.as_str()))
                .map_err(because("mount an overlay"))
        });
    if laid.is_err() {
        umount2(dir, MntFlags::MNT_DETACH)
            .map_err(because(format!("take the tmpfs off {}", dir.display())))?;
    }
    laid
}

fn open_path(path: &Path, further: OFlag) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_PATH | further).bits()).open(path)
}

fn by_descriptor(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}
