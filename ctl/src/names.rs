//! What a sandbox is called and whom it asks for names: hostname, domain, resolver, further lines of /etc/hosts.

use std::{fmt, net::IpAddr, str::FromStr};

use ovnet_proto::v1 as pb;

use crate::{address::parse_address, attachment::Given};

/// Longest hostname, in bytes (`__NEW_UTS_LEN` of Linux).
const MAX_HOSTNAME: usize = 64;
/// Longest name in the DNS, in bytes without a last dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest label of a name, in bytes (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// Stands for the address at which the sandbox reaches its host.
const GATEWAY: &str = "host-gateway";

/// Hostname, resolver and hosts of a sandbox.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Names")]
pub(crate) struct Names {
    /// Hostname that commands see, if not the sandbox's name
    #[arg(long, value_name = "NAME", value_parser = parse_hostname)]
    hostname: Option<String>,
    /// Domain of the hostname
    #[arg(long, value_name = "DOMAIN", value_parser = parse_hostname)]
    domainname: Option<String>,
    /// Name server to ask instead of the host's; may be given several times
    #[arg(long = "dns", value_name = "ADDRESS", value_parser = parse_address)]
    servers: Vec<IpAddr>,
    /// Domain to search names in instead of the host's, or "." for none; may be given several times
    #[arg(long = "dns-search", value_name = "DOMAIN", value_parser = parse_search)]
    search: Vec<String>,
    /// Option of the resolver, such as ndots:2 (resolv.conf(5)); may be given several times
    #[arg(long = "dns-opt", visible_alias = "dns-option", value_name = "OPTION", value_parser = parse_option)]
    resolver_options: Vec<String>,
    /// Line of /etc/hosts, as NAME:ADDRESS or NAME=ADDRESS; the address host-gateway means the address at
    /// which the sandbox reaches its host; may be given several times
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<ExtraHost>,
}

impl Names {
    /// Writes them into a request.
    pub(crate) fn fill(self, request: &mut pb::CreateSandboxRequest) {
        request.hostname = self.hostname.unwrap_or_default();
        request.domain = self.domainname.unwrap_or_default();
        request.dns_servers = self.servers.iter().map(ToString::to_string).collect();
        request.dns_search = self.search;
        request.dns_options = self.resolver_options;
        request.hosts = self
            .hosts
            .into_iter()
            .map(|ExtraHost { name, address }| pb::ExtraHost { name, address: address.to_string() })
            .collect();
    }

    /// Hostname and domain; empty if not given.
    pub(crate) fn of_host(self) -> (String, String) {
        (self.hostname.unwrap_or_default(), self.domainname.unwrap_or_default())
    }

    /// What was given, an option of each kind.
    pub(crate) fn given(&self) -> impl Iterator<Item = Given> {
        let options = [
            (self.hostname.is_some(), Given::Hostname("--hostname")),
            (self.domainname.is_some(), Given::Hostname("--domainname")),
            (!self.servers.is_empty(), Given::Files("--dns")),
            (!self.search.is_empty(), Given::Files("--dns-search")),
            (!self.resolver_options.is_empty(), Given::Files("--dns-opt")),
            (!self.hosts.is_empty(), Given::Files("--add-host")),
        ];
        options.into_iter().filter(|(given, _option)| *given).map(|(_given, option)| option)
    }
}

/// What is wrong with a name of labels of letters, digits, '-' and '_'; None: nothing.
fn wrong(text: &str, longest: usize) -> Option<String> {
    if text.is_empty() {
        return Some("it is empty".into());
    }
    if text.len() > longest {
        return Some(format!("it has {} bytes, at most {longest} are allowed", text.len()));
    }
    text.split('.').find_map(|label| {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if label.is_empty() {
            Some("a part between dots is empty".to_owned())
        } else if label.len() > MAX_LABEL {
            Some(format!("a part between dots has {} bytes, at most {MAX_LABEL} are allowed", label.len()))
        } else if !label.bytes().all(word) || label.starts_with('-') || label.ends_with('-') {
            Some(format!("{label:?} is not a valid part of a name"))
        } else {
            None
        }
    })
}

fn parse_hostname(text: &str) -> Result<String, String> {
    match wrong(text, MAX_HOSTNAME) {
        None => Ok(text.to_owned()),
        Some(reason) => {
            Err(format!("{reason}: expected letters, digits, '-', '_' and dots, such as web.example.org"))
        }
    }
}

fn parse_search(text: &str) -> Result<String, String> {
    if text == "." {
        return Ok(text.to_owned());
    }
    match wrong(text.strip_suffix('.').unwrap_or(text), MAX_NAME) {
        None => Ok(text.to_owned()),
        Some(reason) => Err(format!("{reason}: expected a domain such as example.org, or \".\" for none")),
    }
}

fn parse_option(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected one word, such as ndots:2".into());
    }
    Ok(text.to_owned())
}

/// A line of /etc/hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHost {
    name: String,
    address: HostAddress,
}

/// What a line of /etc/hosts stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HostAddress {
    Ip(IpAddr),
    Gateway,
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Gateway => f.write_str(GATEWAY),
        }
    }
}

impl FromStr for ExtraHost {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected NAME:ADDRESS such as db:10.0.0.5, db:fd00::5 or db:host-gateway";
        // An equals sign goes first: a name has none, and an address has colons.
        let pair = text.split_once('=').or_else(|| text.split_once(':'));
        let (name, address) = pair.ok_or_else(|| format!("it has no address: {EXPECTED}"))?;
        if let Some(reason) = wrong(name.strip_suffix('.').unwrap_or(name), MAX_NAME) {
            return Err(format!("the name {name:?}: {reason}: {EXPECTED}"));
        }
        let address = if address == GATEWAY {
            HostAddress::Gateway
        } else {
            let ip = parse_address(address);
            HostAddress::Ip(ip.map_err(|_reason| format!("{address:?} is not an address: {EXPECTED}"))?)
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(text: &str) -> Result<(String, String), String> {
        text.parse().map(|ExtraHost { name, address }| (name, address.to_string()))
    }

    #[test]
    fn a_host_is_a_name_and_an_address_of_either_family() {
        for (text, name, address) in [
            ("db:10.0.0.5", "db", "10.0.0.5"),
            ("db=10.0.0.5", "db", "10.0.0.5"),
            ("db:::1", "db", "::1"),
            ("db=[::1]", "db", "::1"),
            ("db:[fd00::5]", "db", "fd00::5"),
            ("db=fd00::5", "db", "fd00::5"),
            ("my_db.example.org.:host-gateway", "my_db.example.org.", "host-gateway"),
            ("db=host-gateway", "db", "host-gateway"),
        ] {
            assert_eq!(host(text), Ok((name.to_owned(), address.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_malformed_host_is_refused_with_what_is_expected() {
        for (text, part) in [
            ("", "it has no address"),
            ("db", "it has no address: expected NAME:ADDRESS such as db:10.0.0.5"),
            ("db:", "\"\" is not an address"),
            (":10.0.0.5", "the name \"\": it is empty"),
            ("db:10.0.0", "\"10.0.0\" is not an address"),
            ("db:other", "\"other\" is not an address"),
            ("db:Host-Gateway", "is not an address"),
            ("a b:10.0.0.5", "\"a b\" is not a valid part of a name"),
            ("a\n10.0.0.1 b:10.0.0.5", "is not a valid part of a name"),
            ("#db:10.0.0.5", "is not a valid part of a name"),
            ("-db:10.0.0.5", "is not a valid part of a name"),
            ("a..b:10.0.0.5", "a part between dots is empty"),
            ("db:[10.0.0.5]", "is not an address"),
        ] {
            let error = host(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn hostnames_have_dots_and_a_limit() {
        for good in ["web", "web.example.org", "my_host", "7", &"a.".repeat(31)[..61]] {
            assert_eq!(parse_hostname(good), Ok(good.to_owned()));
        }
        for bad in ["", ".", "a.", ".a", "a b", "a/b", "é", &"a".repeat(64), &"a.".repeat(33)] {
            assert!(parse_hostname(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_search("."), Ok(".".into()));
        assert_eq!(parse_search("example.org."), Ok("example.org.".into()));
        assert!(parse_search("..").is_err() && parse_search("a b").is_err());
        assert!(parse_option("ndots:2").is_ok() && parse_option("ndots 2").is_err());
        assert!(parse_option("a\nnameserver").is_err() && parse_option("").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_out_parses_back(name in "[a-z0-9]{1,9}(\\.[a-z_]{1,9}){0,3}", ip: IpAddr, brackets: bool, equals: bool) {
            let address = if brackets && ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
            let text = format!("{name}{}{address}", if equals { '=' } else { ':' });
            prop_assert_eq!(host(&text), Ok((name, ip.to_string())), "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic_or_leaves_a_blank(text in "[a-z:=.\\[\\] \n#0-9]{0,24}|\\PC{0,24}") {
            if let Ok((name, address)) = host(&text) {
                let line = name + &address;
                prop_assert!(!line.contains(char::is_whitespace));
            }
        }
    }
}
