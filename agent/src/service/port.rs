//! Who holds a port that we need, for the error that says so.

use std::{collections::BTreeSet, fs};

/// "dnsmasq (pid 77)" for the process of this network namespace with a socket on this port; None where it cannot be told.
pub(crate) fn holder(protocol: &str, port: u16) -> Option<String> {
    let inodes: BTreeSet<String> = [protocol.to_owned(), format!("{protocol}6")]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(|line| inode(line, port)).collect::<Vec<_>>())
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.filter_map(|target| target.to_str().map(str::to_owned)).any(|target| {
            target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']'))
                .is_some_and(|it| inodes.contains(it))
        })
    };
    let pid = pids.find(holds)?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", command.trim()))
}

/// The inode of a line of /proc/net/udp or tcp (proc(5)) whose local port is this one; sockets of the kernel have none.
fn inode(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let (_, hex) = local.rsplit_once(':')?;
    if u16::from_str_radix(hex, 16).ok()? != port {
        return None;
    }
    fields.nth(7).filter(|inode| *inode != "0").map(str::to_owned)
}

/// The sentence for an address that is in use: who has it, and the flag that chooses another.
pub(crate) fn in_use(protocol: &str, port: u16, flag: &str) -> String {
    let holder = holder(protocol, port).unwrap_or_else(|| "another process".into());
    format!(
        "{} port {port} is in use by {holder}: stop it, or choose another port with {flag}",
        protocol.to_uppercase()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let text = in_use("udp", port, "--gossip-port");
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        drop(socket);
        assert_eq!(holder("udp", port), None);
    }
}
