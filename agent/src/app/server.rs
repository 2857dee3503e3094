//! The API's unix socket.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use anyhow::{Context, Result};
use tokio::net::UnixListener;

/// Listen at `run_dir/api.sock`, for root, and for `group` if given. The state directory's lock is held, so a socket that
/// is there is a dead agent's.
pub(super) fn listen(run_dir: &Path, group: Option<&str>) -> Result<UnixListener> {
    fs::create_dir_all(run_dir)
        .with_context(|| format!("cannot make the run directory {}", run_dir.display()))?;
    let path = run_dir.join("api.sock");
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove the old socket {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener =
        UnixListener::bind(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660))?;
    if let Some(name) = group {
        let group = nix::unistd::Group::from_name(name)
            .with_context(|| format!("cannot look up the group {name}"))?
            .with_context(|| {
                format!("--api-group {name}: there is no such group (groupadd --system {name} makes it)")
            })?;
        chown(&path, None, Some(group.gid.as_raw()))
            .with_context(|| format!("cannot give {} to {name}", path.display()))?;
    }
    Ok(listener)
}
