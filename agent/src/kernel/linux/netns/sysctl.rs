//! Values below /proc/sys, which shows the namespace of the thread that looks.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::stat::Mode,
};

use super::namespace::Namespace;
use crate::{
    kernel::{KernelError, linux::refusal::Refusal},
    plan::state::Netns,
};

/// How the keys of what each network namespace has of its own begin.
const NET: &str = "net/";

/// Read those of these keys that this kernel has, in one go.
pub(in crate::kernel::linux) fn read_all(
    namespace: &Namespace,
    netns: &Netns,
    keys: &BTreeSet<String>,
) -> Result<BTreeMap<String, String>, KernelError> {
    let named = |key: &str| format!("{key} in {netns}");
    let values = namespace
        .run(|| {
            let mut opened = Directories::default();
            keys.iter().map(|key| (key, opened.read(key))).collect::<Vec<_>>()
        })
        .map_err(|refusal| refusal.into_error("read sysctls in", netns.to_string()))?;
    let mut seen = BTreeMap::new();
    for (key, value) in values {
        let value = value.map_err(|refusal| refusal.into_error("read sysctl", named(key)))?;
        seen.extend(value.map(|value| (key.clone(), value)));
    }
    Ok(seen)
}

/// Directories right below /proc/sys/net, each opened once. All namespaces of the host have theirs under the same few names, and
/// the kernel goes through all of them to find the one: with 500 namespaces that is most of what reading a value costs.
#[derive(Default)]
struct Directories<'a>(BTreeMap<&'a str, Option<File>>);

impl<'a> Directories<'a> {
    fn read(&mut self, key: &'a str) -> Result<Option<String>, Refusal> {
        let whole = path(key)?;
        let Some((first, rest)) = key.strip_prefix(NET).and_then(|below| below.split_once('/')) else {
            return read(File::open(whole));
        };
        let directory = match self.0.entry(first) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(found(File::open(path(&format!("{NET}{first}"))?))?),
        };
        let Some(directory) = directory else { return Ok(None) };
        let file = openat(directory, rest, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        read(file.map(File::from).map_err(io::Error::from))
    }
}

/// Write these values, in order, each with its outcome.
pub(in crate::kernel::linux) fn write_all(
    namespace: &Namespace,
    values: &[(&str, &str)],
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    namespace.run(|| values.iter().map(|(key, value)| write(key, value)).collect())
}

fn read(opened: io::Result<File>) -> Result<Option<String>, Refusal> {
    let Some(mut file) = found(opened)? else { return Ok(None) };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    // Several numbers come with tabs between them.
    Ok(Some(text.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// None: this kernel has none.
fn found(opened: io::Result<File>) -> Result<Option<File>, Refusal> {
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn write(key: &str, value: &str) -> Result<(), Refusal> {
    let file = OpenOptions::new().write(true).open(path(key)?);
    match file.and_then(|mut file| file.write_all(value.as_bytes())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::new(
            Errno::ENOENT,
            format!("this kernel has no {key}: a link of that name or a module may be missing"),
        )),
        outcome => outcome.map_err(Refusal::from),
    }
}

fn path(key: &str) -> Result<PathBuf, Refusal> {
    let wrong = key.is_empty() || key.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if wrong {
        return Err(Refusal::new(Errno::EINVAL, format!("{key:?} is not a key in slash form")));
    }
    Ok(Path::new("/proc/sys").join(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_the_sysctl_tree() {
        for key in ["", "/etc/passwd", "net/../../etc/passwd", "net//ipv4", "."] {
            assert!(path(key).is_err(), "{key}");
        }
        assert_eq!(path("net/ipv4/ip_forward").unwrap(), Path::new("/proc/sys/net/ipv4/ip_forward"));
    }
}
