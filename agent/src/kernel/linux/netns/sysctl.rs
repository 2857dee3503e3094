//! Values below /proc/sys, which shows the namespace of the thread that looks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::errno::Errno;

use super::{
    namespace::Namespace,
    procfs::{self, Procfs},
};
use crate::{
    kernel::{KernelError, linux::refusal::Refusal},
    plan::state::Netns,
};

/// Read those of these keys that this kernel has, in one go.
pub(in crate::kernel::linux) fn read_all(
    namespace: &Namespace,
    netns: &Netns,
    keys: &BTreeSet<&str>,
    procfs: &Procfs,
) -> Result<BTreeMap<String, String>, KernelError> {
    let named = |key: &str| format!("{key} in {netns}");
    let procfs = procfs.take();
    let values = namespace
        .run(|| keys.iter().map(|key| (*key, read(procfs.as_deref(), key))).collect::<Vec<_>>())
        .map_err(|refusal| refusal.into_error("read sysctls in", netns.to_string()))?;
    let mut observed = BTreeMap::new();
    for (key, value) in values {
        let value = value.map_err(|refusal| refusal.into_error("read sysctl", named(key)))?;
        observed.extend(value.map(|value| (key.to_owned(), value)));
    }
    Ok(observed)
}

/// Write these values, in order, each with its outcome.
pub(in crate::kernel::linux) fn write_all(
    namespace: &Namespace,
    values: &[(&str, &str)],
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    namespace.run(|| values.iter().map(|(key, value)| write(key, value)).collect())
}

/// `None` if this kernel has none.
fn read(procfs: Option<&OwnedFd>, key: &str) -> Result<Option<String>, Refusal> {
    check(key)?;
    let opened = match procfs {
        Some(procfs) => procfs::open(procfs.as_fd(), &format!("sys/{key}")),
        None => Err(rustix::io::Errno::NOENT),
    };
    let mut file = match opened {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(io::Error::from(error).into()),
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // Several numbers come with tabs between them.
    Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn write(key: &str, value: &str) -> Result<(), Refusal> {
    check(key)?;
    let file = OpenOptions::new().write(true).open(Path::new("/proc/sys").join(key));
    match file.and_then(|mut file| file.write_all(value.as_bytes())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::new(
            Errno::ENOENT,
            format!("this kernel has no {key}: a link of that name or a module may be missing"),
        )),
        outcome => outcome.map_err(Refusal::from),
    }
}

fn check(key: &str) -> Result<(), Refusal> {
    let wrong = key.is_empty() || key.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if wrong {
        return Err(Refusal::new(Errno::EINVAL, format!("{key:?} is not a key in slash form")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_the_sysctl_tree() {
        for key in ["", "/etc/passwd", "net/../../etc/passwd", "net//ipv4", "."] {
            assert!(check(key).is_err(), "{key}");
        }
        check("net/ipv4/ip_forward").unwrap();
    }
}
