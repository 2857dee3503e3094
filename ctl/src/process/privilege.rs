//! Whether we may enter namespaces at all, asked before anything is made.

use std::fs;

use crate::failure::Failure;

/// CAP_SYS_ADMIN in `linux/capability.h`.
const SYS_ADMIN: u32 = 21;

/// # Errors
/// This process lacks what `command` needs.
pub(crate) fn check(command: &str) -> Result<(), Failure> {
    let status = fs::read_to_string("/proc/self/status").map_err(Failure::local("read /proc/self/status"))?;
    if effective(&status).is_some_and(|capabilities| capabilities >> SYS_ADMIN & 1 == 1) {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "{command} enters network namespaces, which needs the capability CAP_SYS_ADMIN: run it as root \
         (sudo ovctl {command} …); nothing was created or started"
    )))
}

/// The effective capabilities in the text of /proc/PID/status.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_capabilities_are_read_from_proc() {
        assert_eq!(effective("Name:\tx\nCapPrm:\t0\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("CapEff:\t0000000000000000\n"), Some(0));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
