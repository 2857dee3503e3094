//! Sandboxes.

use std::path::PathBuf;

use ovnet_proto::v1;

use super::limits::{self, MAX_PATH, MAX_TEXT};
use crate::model::{Invalid, Name, Sandbox, Timestamp};

impl From<&Sandbox> for v1::Sandbox {
    fn from(sandbox: &Sandbox) -> Self {
        let (pid, pid_start) = sandbox.process.unwrap_or_default();
        Self {
            id: sandbox.id.to_string(),
            name: sandbox.name.to_string(),
            // Paths reach us as text, over the API: a lossy one is not seen here.
            netns: sandbox.netns.to_string_lossy().into_owned(),
            adopted: sandbox.adopted,
            pid,
            pid_start,
            hostname: sandbox.hostname.clone(),
            created_ms: sandbox.created.0,
            netns_inode: sandbox.netns_inode,
            unfinished: sandbox.unfinished,
        }
    }
}

impl TryFrom<v1::Sandbox> for Sandbox {
    type Error = Invalid;

    fn try_from(wire: v1::Sandbox) -> Result<Self, Invalid> {
        limits::text("hostname", &wire.hostname, MAX_TEXT)?;
        limits::text("path of a network namespace", &wire.netns, MAX_PATH)?;
        if wire.netns.is_empty() || wire.netns.contains('\0') {
            let reason = "expected the path of a file";
            return Err(Invalid::new("path of a network namespace", wire.netns, reason));
        }
        Ok(Self {
            id: wire.id.parse()?,
            name: Name::parse("sandbox name", &wire.name)?,
            netns: PathBuf::from(wire.netns),
            adopted: wire.adopted,
            process: (wire.pid != 0).then_some((wire.pid, wire.pid_start)),
            netns_inode: wire.netns_inode,
            unfinished: wire.unfinished,
            hostname: wire.hostname,
            created: Timestamp(wire.created_ms),
        })
    }
}
