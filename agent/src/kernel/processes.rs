//! The little of /proc that sandboxes need: which process is which, and who is in a namespace.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use nix::errno::Errno;

/// Start time of a process in clock ticks since boot (proc(5), field 22 of /proc/PID/stat); None: there is no such
/// process, or it has ended and only its parent has not taken note of it yet.
///
/// # Errors
/// It cannot be told.
pub(super) fn start_time(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        // It may also go between the opening and the reading.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::ESRCH as i32) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let odd = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/stat does not have the format of proc(5)"),
        )
    };
    // The second field is the command in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')').ok_or_else(odd)?;
    let mut fields = rest.split_whitespace();
    if matches!(fields.next(), Some("Z" | "X")) {
        return Ok(None);
    }
    fields.nth(18).and_then(|ticks| ticks.parse().ok()).map(Some).ok_or_else(odd)
}

/// Pids of the processes in the namespace at `path`, ours left out.
pub(super) fn in_netns(path: &Path) -> Vec<u32> {
    let Ok(inode) = fs::metadata(path).map(|meta| meta.ino()) else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let inside =
        |pid: &u32| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| meta.ino() == inode);
    pids.filter(|pid| *pid != std::process::id()).filter(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_by_its_start_time() {
        let own = start_time(std::process::id()).unwrap();
        assert!(own.is_some_and(|ticks| ticks > 0));
        assert_eq!(own, start_time(std::process::id()).unwrap());
        assert_eq!(start_time(u32::MAX).unwrap(), None);
    }

    #[test]
    fn a_process_that_its_parent_has_not_waited_for_has_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while start_time(child.id()).unwrap().is_some() {
            assert!(std::time::Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
        child.wait().unwrap();
    }
}
