//! resolv.conf(5): what a host, or a sandbox, asks for names.

use std::{
    fmt::Write,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::kernel::opening;

/// Largest resolv.conf that is read, in bytes.
const LARGEST: usize = 64 << 10;
/// Most servers of it that are asked (MAXNS of resolv.h).
const MOST: usize = 3;
/// Longest that a change of the host's file goes unseen.
const FRESH: Duration = Duration::from_secs(1);
/// The port of DNS.
const PORT: u16 = 53;

/// The address of our resolver in each sandbox that has one, as in Docker.
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// The link of a link-local address ("fe80::1%eth0").
    pub link: Option<String>,
}

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// The servers, in their order.
    pub servers: Vec<Server>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Options, such as "ndots:2".
    pub options: Vec<String>,
}

impl ResolvConf {
    /// Read the text of such a file. What is not understood is left out, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().take_while(|word| !word.starts_with(['#', ';']));
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(Server::parse)),
                // The last of them counts.
                Some("domain") => conf.search = words.take(1).map(str::to_owned).collect(),
                Some("search") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                Some(_) | None => {}
            }
        }
        conf
    }

    /// The text of such a file with these servers, below a first line that says whose it is.
    pub fn render(&self, first_line: &str) -> String {
        let mut text = format!("{first_line}\n");
        for server in &self.servers {
            let link = server.link.as_ref().map(|link| format!("%{link}")).unwrap_or_default();
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "nameserver {}{link}", server.address);
        }
        for (word, values) in [("search", &self.search), ("options", &self.options)] {
            if !values.is_empty() {
                let _infallible = writeln!(text, "{word} {}", values.join(" "));
            }
        }
        text
    }

    /// Where the servers are asked from this host, whose links have these indexes. A file that names none means this host itself.
    pub(super) fn targets(&self, link_index: &dyn Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
        if self.servers.is_empty() {
            return vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)];
        }
        let ours = |server: &&Server| server.address != IpAddr::V4(RESOLVER);
        self.servers.iter().filter(ours).filter_map(|server| server.target(link_index)).take(MOST).collect()
    }
}

impl Server {
    fn parse(text: &str) -> Option<Self> {
        let (address, link) = match text.split_once('%') {
            Some((address, link)) => (address, Some(link.to_owned())),
            None => (text, None),
        };
        Some(Self { address: address.parse().ok()?, link })
    }

    /// Whether others than its own host can ask it: it is neither on a loopback nor on a link.
    pub fn is_reachable(&self) -> bool {
        let on_link = match self.address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        !self.address.is_loopback() && !self.address.is_unspecified() && !on_link
    }

    fn target(&self, link_index: &dyn Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
        let Some(link) = &self.link else { return Some(SocketAddr::new(self.address, PORT)) };
        let IpAddr::V6(v6) = self.address else { return None };
        Some(SocketAddrV6::new(v6, PORT, 0, link_index(link)?).into())
    }
}

impl From<IpAddr> for Server {
    fn from(address: IpAddr) -> Self {
        Self { address, link: None }
    }
}

/// The host's own resolv.conf, read again when it has changed.
#[derive(Debug)]
pub struct HostConf {
    path: PathBuf,
    seen: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    looked: Option<Instant>,
    /// What tells one version of the file from another: inode, size, time of change in nanoseconds.
    stamp: Option<(u64, u64, i64, i64)>,
    changes: u64,
    conf: Arc<ResolvConf>,
}

impl HostConf {
    /// The one at `path`, usually /etc/resolv.conf.
    pub fn new(path: &Path) -> Self {
        let seen = Known { looked: None, stamp: None, changes: 0, conf: Arc::default() };
        Self { path: path.to_owned(), seen: Mutex::new(seen) }
    }

    /// What it says, and how often it has changed. One that is gone, or cannot be read, says nothing.
    pub fn read(&self) -> (Arc<ResolvConf>, u64) {
        self.look(Duration::ZERO)
    }

    /// The same for whoever asks very often: it may be as old as [`FRESH`].
    pub(super) fn recent(&self) -> (Arc<ResolvConf>, u64) {
        self.look(FRESH)
    }

    fn look(&self, age: Duration) -> (Arc<ResolvConf>, u64) {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= age) {
            let first = seen.looked.replace(now).is_none();
            let stamp =
                fs::metadata(&self.path).ok().map(|it| (it.ino(), it.size(), it.mtime(), it.mtime_nsec()));
            if first || stamp != seen.stamp {
                seen.stamp = stamp;
                let text = opening::read(&self.path).unwrap_or_default();
                let text = text.get(..text.len().min(LARGEST)).unwrap_or_default();
                let conf = ResolvConf::parse(&String::from_utf8_lossy(text));
                if first || conf != *seen.conf {
                    seen.changes += 1;
                    seen.conf = Arc::new(conf);
                }
            }
        }
        (Arc::clone(&seen.conf), seen.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_the_c_library_reads_it() {
        let conf = ResolvConf::parse(
            "# generated\nnameserver 192.0.2.1 # first\n;nameserver 192.0.2.9\nnameserver fe80::1%eth0\nnameserver x\n\
             domain a.example\nsearch b.example c.example\noptions ndots:2 edns0\noptions trust-ad\nsortlist 10.0.0.0\n",
        );
        let servers: Vec<_> =
            conf.servers.iter().map(|it| (it.address.to_string(), it.link.as_deref())).collect();
        assert_eq!(servers, [("192.0.2.1".into(), None), ("fe80::1".into(), Some("eth0"))]);
        assert_eq!(conf.search, ["b.example", "c.example"]);
        assert_eq!(conf.options, ["ndots:2", "edns0", "trust-ad"]);
        assert_eq!(ResolvConf::parse(&conf.render("# ours")), conf);
    }

    #[test]
    fn loopback_and_link_servers_are_the_hosts_alone() {
        let reachable = |text: &str| Server::parse(text).unwrap().is_reachable();
        for own in ["127.0.0.53", "::1", "fe80::1%eth0", "169.254.1.1", "0.0.0.0"] {
            assert!(!reachable(own), "{own}");
        }
        assert!(reachable("192.0.2.1") && reachable("2001:db8::1"));
    }

    #[test]
    fn a_host_without_servers_asks_itself_and_never_us() {
        assert_eq!(ResolvConf::default().targets(&|_| None), ["127.0.0.1:53".parse().unwrap()]);
        let conf = ResolvConf::parse("nameserver 127.0.0.11\nnameserver ::1\n");
        assert_eq!(conf.targets(&|_| None), ["[::1]:53".parse().unwrap()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_hosts_file_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let host = HostConf::new(&path);
        assert_eq!(host.read(), (Arc::default(), 1));
        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        tokio::time::advance(FRESH).await;
        let (conf, changes) = host.recent();
        assert_eq!((conf.servers.len(), changes), (1, 2));
        // Replaced by another file of the same size, as most programs do it.
        fs::write(dir.path().join("new"), "nameserver 192.0.2.2\n").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(host.read().0.servers[0].address.to_string(), "192.0.2.2");
        tokio::time::advance(FRESH).await;
        assert_eq!(host.read().1, 3, "nothing has changed");
    }
}
