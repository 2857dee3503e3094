//! Names of hosts and domains, and what resolv.conf(5) takes: the texts that end up in a sandbox's files.

use std::net::IpAddr;

use super::{
    limits::{self, MAX_TEXT},
    nearest,
    subnet::address,
};
use crate::model::Invalid;

/// Longest name in the DNS, in bytes (RFC 1035 section 3.1, as text without the closing dot).
const MAX_NAME: usize = 253;
/// Longest label, in bytes.
const MAX_LABEL: usize = 63;
/// Options with a number, and the largest that has a meaning (resolv.conf(5)).
const NUMBERED: [(&str, u32); 3] = [("ndots", 15), ("timeout", 30), ("attempts", 5)];
/// Options without a value.
const PLAIN: [&str; 16] = [
    "debug",
    "edns0",
    "inet6",
    "ip6-bytestring",
    "ip6-dotint",
    "no-aaaa",
    "no-check-names",
    "no-ip6-dotint",
    "no-reload",
    "no-tld-query",
    "rotate",
    "single-request",
    "single-request-reopen",
    "strict-error",
    "trust-ad",
    "use-vc",
];

/// A name server.
///
/// # Errors
/// No address, or one that no server can have.
pub fn dns_server(text: &str) -> Result<IpAddr, Invalid> {
    const WHAT: &str = "DNS server";
    let server = address(WHAT, text)?;
    if server.is_unspecified() || server.is_multicast() {
        return Err(Invalid::new(WHAT, text, "expected the address of a name server"));
    }
    Ok(server)
}

/// A domain to search; only "." means no domain.
///
/// # Errors
/// No domain name.
pub fn search_domain(text: &str) -> Result<String, Invalid> {
    const WHAT: &str = "search domain";
    if text == "." {
        return Ok(text.to_owned());
    }
    dns_name(WHAT, text.strip_suffix('.').unwrap_or(text), text)?;
    Ok(text.to_owned())
}

/// An option of resolv.conf(5), such as `ndots:2`.
///
/// # Errors
/// An option that there is not (with the nearest), a number that is missing, too large or out of place.
pub fn dns_option(text: &str) -> Result<String, Invalid> {
    let wrong = |reason: String| Err(Invalid::new("DNS option", text, reason));
    let (name, number) = text.split_once(':').map_or((text, None), |(name, number)| (name, Some(number)));
    if let Some((_, most)) = NUMBERED.iter().find(|(known, _)| *known == name) {
        let fits = number.and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number <= *most);
        return if fits {
            Ok(text.to_owned())
        } else {
            wrong(format!("expected a number from 0 to {most}, as in {name}:2"))
        };
    }
    if PLAIN.contains(&name) {
        return if number.is_none() {
            Ok(text.to_owned())
        } else {
            wrong(format!("{name} does not take a number"))
        };
    }
    let all = || NUMBERED.iter().map(|(name, _)| *name).chain(PLAIN);
    match nearest(name, all()) {
        Some(near) => wrong(format!("there is no such option; did you mean {near}?")),
        None => wrong(format!("there is no such option; there are {}", all().collect::<Vec<_>>().join(", "))),
    }
}

/// The domain of a host's name; empty: none.
///
/// # Errors
/// No domain name.
pub fn domain(text: &str) -> Result<String, Invalid> {
    if !text.is_empty() {
        dns_name("domain", text, text)?;
    }
    Ok(text.to_owned())
}

/// A name of a line of /etc/hosts.
pub(super) fn host_name(what: &'static str, text: &str, quoted: &str) -> Result<(), Invalid> {
    dns_name(what, text, quoted)
}

/// Labels of letters, digits, '-' and '_' with dots between them.
fn dns_name(what: &'static str, name: &str, quoted: &str) -> Result<(), Invalid> {
    limits::text(what, quoted, MAX_TEXT)?;
    let wrong = |reason: String| Err(Invalid::new(what, quoted, reason));
    if name.len() > MAX_NAME {
        return wrong(format!("it has {} bytes, at most {MAX_NAME} are allowed", name.len()));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return wrong("a part of it is empty: expected a name such as example.org".into());
        }
        if label.len() > MAX_LABEL {
            return wrong(format!("the part {label:?} is longer than {MAX_LABEL} bytes"));
        }
        if let Some(bad) = label.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
            return wrong(format!(
                "character {bad:?} is not allowed: a name has letters, digits, '-' and '_', with dots between its parts"
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return wrong(format!("the part {label:?} starts or ends with '-'"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_into_resolv_conf_is_taken_as_it_is() {
        for text in ["example.org", "example.org.", "a_b.c-d", "."] {
            assert_eq!(search_domain(text).unwrap(), text);
        }
        for text in ["ndots:2", "timeout:1", "attempts:3", "rotate", "use-vc", "single-request-reopen"] {
            assert_eq!(dns_option(text).unwrap(), text);
        }
        assert_eq!(dns_server("2001:db8::53").unwrap(), "2001:db8::53".parse::<IpAddr>().unwrap());
        assert_eq!(domain("").unwrap(), "");
    }

    #[test]
    fn what_does_not_fit_there_is_refused_with_what_would_be_right() {
        let reason = |result: Result<String, Invalid>| result.unwrap_err().to_string();
        for (text, part) in [
            ("", "a part of it is empty"),
            ("a..b", "a part of it is empty"),
            ("a b", "character ' ' is not allowed"),
            ("a\nnameserver 192.0.2.1", "character '\\n' is not allowed"),
            ("-a.b", "starts or ends with '-'"),
        ] {
            let error = reason(search_domain(text));
            assert!(
                error.starts_with(&format!("invalid search domain {text:?}")) && error.contains(part),
                "{error}"
            );
        }
        assert!(reason(search_domain(&format!("{}a", "a.".repeat(127)))).contains("at most 253"));
        assert!(reason(search_domain(&format!("{}.org", "a".repeat(64)))).contains("longer than 63"));
        for (text, part) in [
            ("ndot:2", "did you mean ndots?"),
            ("ndots", "expected a number from 0 to 15, as in ndots:2"),
            ("ndots:99", "from 0 to 15"),
            ("ndots:-1", "from 0 to 15"),
            ("rotate:1", "rotate does not take a number"),
            ("", "there are ndots, timeout"),
        ] {
            let error = reason(dns_option(text));
            assert!(error.contains(part), "{error}");
        }
        for text in ["0.0.0.0", "224.0.0.1", "192.0.2.1:53", "dns.example.org"] {
            assert!(dns_server(text).unwrap_err().to_string().contains("DNS server"), "{text}");
        }
        assert!(domain("a/b").is_err());
    }
}
