//! A copy of `/etc` in memory, mounted over it: what a test writes there reaches no real file, and needs no privilege.
//!
//! A copy and no overlay: an unprivileged mount of one is refused where the machine has mounts of its own below `/etc`, as
//! every container has.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};

/// Where it is filled before it is moved to its place.
const FILLED_AT: &str = "/run/etc";
/// Most files and directories that are copied.
const MOST: usize = 100_000;
/// Deepest directory that is copied.
const DEEPEST: usize = 16;

/// Mount the copy. To be called in a mount namespace of our own, in which `/run` may be written.
///
/// # Errors
/// `/etc` cannot be listed; a mount is refused. What may not be read is left out.
pub(crate) fn replace() -> Result<()> {
    let none: Option<&str> = None;
    fs::create_dir(FILLED_AT).with_context(|| format!("make {FILLED_AT}"))?;
    mount(Some("lab"), FILLED_AT, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"))
        .context("mount a tmpfs for the copy of /etc")?;
    let mut left = MOST;
    copy(Path::new("/etc"), Path::new(FILLED_AT), DEEPEST, &mut left)?;
    // Made here, since `ip netns exec` mounts over files that are there, and hosts mount over this directory.
    fs::create_dir_all(Path::new(FILLED_AT).join("netns")).context("make etc/netns")?;
    for file in ["hosts", "resolv.conf", "hostname"] {
        fs::File::options()
            .create(true)
            .append(true)
            .open(Path::new(FILLED_AT).join(file))
            .with_context(|| format!("make etc/{file}"))?;
    }
    mount(Some(FILLED_AT), "/etc", none, MsFlags::MS_MOVE, none).context("move the copy over /etc")?;
    fs::remove_dir(FILLED_AT).with_context(|| format!("remove {FILLED_AT}"))
}

fn copy(from: &Path, to: &Path, depth: usize, left: &mut usize) -> Result<()> {
    let listed = match fs::read_dir(from) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {}", from.display())),
    };
    for entry in listed {
        let entry = entry.with_context(|| format!("list {}", from.display()))?;
        let Some(less) = left.checked_sub(1) else { bail!("/etc has more than {MOST} files") };
        *left = less;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().with_context(|| format!("look at {}", path.display()))?;
        // The names of a resolver that is not there are no use in a lab: a dangling link is made a file by who needs it.
        if kind.is_symlink() && path.exists() {
            let points = fs::read_link(&path).with_context(|| format!("read {}", path.display()))?;
            symlink(points, &target).with_context(|| format!("make {}", target.display()))?;
        } else if kind.is_dir() && depth > 0 {
            fs::create_dir(&target).with_context(|| format!("make {}", target.display()))?;
            copy(&path, &target, depth - 1, left)?;
        } else if kind.is_file() {
            file(&path, &target)?;
        }
    }
    Ok(())
}

fn file(from: &Path, to: &Path) -> Result<()> {
    match fs::read(from) {
        Ok(bytes) => fs::write(to, bytes).with_context(|| format!("write {}", to.display()))?,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("read {}", from.display())),
    }
    let mode =
        fs::metadata(from).with_context(|| format!("look at {}", from.display()))?.permissions().mode();
    fs::set_permissions(to, fs::Permissions::from_mode(mode | 0o600))
        .with_context(|| format!("set the mode of {}", to.display()))
}
