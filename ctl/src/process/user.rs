//! `--user NAME|UID[:GROUP|GID]`.

use std::{ffi::CString, path::PathBuf};

use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setuid};

/// Whom a process is to run as.
#[derive(Debug)]
pub(super) struct Identity {
    uid: Uid,
    gid: Gid,
    /// The user's name, for its further groups; unknown for a bare number.
    name: Option<CString>,
    /// The user's home directory.
    pub(super) home: PathBuf,
}

impl Identity {
    /// The user and group that `text` names.
    ///
    /// # Errors
    /// There is no such user or group.
    pub(super) fn resolve(text: &str) -> Result<Self, String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let number = user.parse().ok().map(Uid::from_raw);
        let known = match number {
            Some(uid) => User::from_uid(uid),
            None => User::from_name(user),
        };
        let known = known.map_err(|cause| format!("cannot look up the user {user:?}: {cause}"))?;
        let gid = group.map(resolve_group).transpose()?;
        match (known, number) {
            (Some(known), _) => Ok(Self {
                uid: known.uid,
                gid: gid.unwrap_or(known.gid),
                name: CString::new(known.name).ok().filter(|_name| gid.is_none()),
                home: known.dir,
            }),
            (None, Some(uid)) => {
                Ok(Self { uid, gid: gid.unwrap_or(Gid::from_raw(0)), name: None, home: "/".into() })
            }
            (None, None) => {
                Err(format!("this host has no user {user:?}: expected a name or number, see getent passwd"))
            }
        }
    }

    /// Becomes that user, for good.
    ///
    /// # Errors
    /// The kernel does not allow it.
    pub(super) fn assume(&self) -> nix::Result<()> {
        match &self.name {
            Some(name) => initgroups(name, self.gid)?,
            None => setgroups(&[self.gid])?,
        }
        setgid(self.gid)?;
        setuid(self.uid)
    }
}

fn resolve_group(text: &str) -> Result<Gid, String> {
    if let Ok(number) = text.parse() {
        return Ok(Gid::from_raw(number));
    }
    let known =
        Group::from_name(text).map_err(|cause| format!("cannot look up the group {text:?}: {cause}"))?;
    known.map(|group| group.gid).ok_or_else(|| {
        format!("this host has no group {text:?}: expected a name or number, see getent group")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_resolved() {
        let root = Identity::resolve("root").unwrap();
        assert_eq!((root.uid.as_raw(), root.gid.as_raw(), root.name.is_some()), (0, 0, true));
        let both = Identity::resolve("4242:4343").unwrap();
        assert_eq!((both.uid.as_raw(), both.gid.as_raw(), both.name), (4242, 4343, None));
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(Identity::resolve("no-such-user").unwrap_err().contains("no user \"no-such-user\""));
        assert!(Identity::resolve("root:no-such-group").unwrap_err().contains("no group"));
    }
}
