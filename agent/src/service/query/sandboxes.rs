//! `sandbox ls`, `inspect`: the sandboxes of this node.

use std::{fmt, path::PathBuf};

use super::super::{Service, ServiceError};
use crate::{
    kernel::Kernel,
    model::{Endpoint, Name, Network, Sandbox},
};

/// A sandbox with what belongs to it.
#[derive(Clone, Debug)]
pub struct SandboxDetail {
    /// Its record.
    pub sandbox: Sandbox,
    /// Its endpoints in all networks, by interface.
    pub endpoints: Vec<Endpoint>,
    /// The networks of its endpoints.
    pub networks: Vec<Network>,
    /// Whether it is there.
    pub state: SandboxState,
    /// Where its files are: its own, or those of the one whose namespace it shares.
    pub files_dir: PathBuf,
}

/// Whether a sandbox is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxState {
    /// Its namespace is there.
    Up,
    /// It was removed, and stays for those that share its namespace.
    Left,
    /// Its namespace, or the process it was adopted from, is gone.
    Gone,
}

impl fmt::Display for SandboxState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Left => "left",
            Self::Gone => "gone",
        })
    }
}

impl<K: Kernel> Service<K> {
    /// Every sandbox of this node.
    ///
    /// # Errors
    /// The store has not been read yet; it cannot be told whether one of them is there.
    pub async fn sandboxes(&self) -> Result<Vec<SandboxDetail>, ServiceError> {
        self.ready().await?;
        let sandboxes: Vec<Sandbox> =
            self.world.read(|intent| intent.sandboxes().values().cloned().collect());
        let mut details = Vec::with_capacity(sandboxes.len());
        for sandbox in sandboxes {
            details.push(self.sandbox_detail(sandbox).await?);
        }
        Ok(details)
    }

    /// One sandbox of this node.
    ///
    /// # Errors
    /// Unknown or ambiguous; the store has not been read yet; it cannot be told whether it is there.
    pub async fn sandbox(&self, text: &str) -> Result<SandboxDetail, ServiceError> {
        self.ready().await?;
        let sandbox = self.world.read(|intent| intent.find_sandbox(text).cloned())?;
        self.sandbox_detail(sandbox).await
    }

    async fn sandbox_detail(&self, sandbox: Sandbox) -> Result<SandboxDetail, ServiceError> {
        let endpoints = self.endpoints_of(&sandbox.name);
        let networks = self.world.read(|intent| {
            let views = endpoints.iter().filter_map(|endpoint| intent.network(endpoint.network));
            views.filter_map(|view| view.network()).cloned().collect()
        });
        let state = match self.is_present(&sandbox).await? {
            false => SandboxState::Gone,
            true if sandbox.left => SandboxState::Left,
            true => SandboxState::Up,
        };
        let files_dir = self.files_of(&sandbox);
        Ok(SandboxDetail { sandbox, endpoints, networks, state, files_dir })
    }

    /// Where the files of a sandbox are: its own, or those of the one whose namespace it shares.
    pub fn files_of(&self, sandbox: &Sandbox) -> PathBuf {
        self.files_dir(sandbox.shares.as_ref().unwrap_or(&sandbox.name))
    }

    /// A sandbox's endpoints in all networks, by interface.
    pub fn endpoints_of(&self, sandbox: &Name) -> Vec<Endpoint> {
        let mut endpoints: Vec<Endpoint> =
            self.world.read(|intent| intent.endpoints_in(self.world.me, sandbox).cloned().collect());
        endpoints.sort_by_key(|endpoint| endpoint.ifname);
        endpoints
    }

    /// Whether a sandbox's namespace, and the process it was adopted from, are still there.
    ///
    /// # Errors
    /// It cannot be told.
    pub async fn is_present(&self, sandbox: &Sandbox) -> Result<bool, ServiceError> {
        if let Some((pid, start)) = sandbox.process
            && self.machine.is_gone(pid, start).map_err(|error| {
                ServiceError::Internal(format!(
                    "cannot tell whether process {pid} of sandbox {} is still there: {error}",
                    sandbox.name
                ))
            })?
        {
            return Ok(false);
        }
        let inode = self.kernel.netns_inode(sandbox.netns.clone()).await?;
        Ok(inode.is_some_and(|inode| !sandbox.adopted || inode == sandbox.netns_inode))
    }
}
