//! The API's unix socket.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use anyhow::{Context, Result, bail};
use tokio::net::{UnixListener, UnixStream};

/// Listen at `run_dir/api.sock`, for root, and for `group` if given. A socket that nobody listens at is a dead agent's;
/// one that answers is that of an agent with another state directory.
pub(super) async fn listen(run_dir: &Path, group: Option<&str>) -> Result<UnixListener> {
    fs::create_dir_all(run_dir)
        .with_context(|| format!("cannot make the run directory {}", run_dir.display()))?;
    let path = run_dir.join("api.sock");
    if let Ok(answer) = UnixStream::connect(&path).await {
        let pid = answer.peer_cred().ok().and_then(|holder| holder.pid());
        bail!(
            "the run directory {} is in use by another ovagent{}: stop it, or start this one with a \
             different --run-dir",
            run_dir.display(),
            pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_a_running_agent_is_left_alone_and_that_of_a_dead_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = listen(dir.path(), None).await.unwrap();
        let refusal = listen(dir.path(), None).await.unwrap_err().to_string();
        assert!(refusal.contains("in use by another ovagent (pid "), "{refusal}");
        assert!(
            UnixStream::connect(dir.path().join("api.sock")).await.is_ok(),
            "the first one still listens"
        );
        drop(first);
        listen(dir.path(), None).await.unwrap();
    }
}
