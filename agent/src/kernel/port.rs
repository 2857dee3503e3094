//! Who holds a port that we need, for the error that says so.

use std::{collections::BTreeSet, fs};

/// "dnsmasq (pid 77)" for the process with a socket on this port in the network namespace of ours; `protocol`: "tcp" or
/// "udp". None: no process that can be seen.
pub(crate) fn holder(protocol: &str, port: u16) -> Option<String> {
    let sockets: BTreeSet<String> = [protocol.to_owned(), format!("{protocol}6")]
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| table.lines().skip(1).filter_map(|line| inode(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?;
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
    })?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("{} (pid {pid})", command.trim()))
}

/// The inode of a line of /proc/net/udp or tcp (proc(5)) whose local port is this one. A socket of the kernel has one too, in no
/// process; a connection that nobody owns any more (TIME_WAIT) has none.
fn inode(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let (_, hex) = local.rsplit_once(':')?;
    if u16::from_str_radix(hex, 16).ok()? != port {
        return None;
    }
    fields.nth(7).filter(|inode| *inode != "0").map(str::to_owned)
}

/// The sentence for a port that is in use: who has it, and the flag that chooses another.
pub(crate) fn in_use(protocol: &str, port: u16, flag: &str) -> String {
    held_by(holder(protocol, port).as_deref(), protocol, port, flag)
}

/// [`in_use`], by this holder.
pub(crate) fn held_by(holder: Option<&str>, protocol: &str, port: u16, flag: &str) -> String {
    let holder = holder.unwrap_or("a process or device that cannot be seen from here");
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
        assert!(text.starts_with(&format!("UDP port {port} is in use by ")), "{text}");
        assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
        drop(socket);
        assert_eq!(holder("udp", port), None);
    }
}
