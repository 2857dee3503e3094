//! What is asked for: a name, an address, or a service of a name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::RecordType;

use crate::model::Protocol;

/// A question, as the zone sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    /// The name in lower case, without the closing dot. Empty: a name that none of ours can be, since it has other
    /// characters than letters, digits, '-' and '_'.
    pub(super) text: String,
    /// The type of the records.
    pub(super) kind: RecordType,
}

/// The meaning of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form<'a> {
    /// A name.
    Name(&'a str),
    /// An address, by in-addr.arpa (RFC 1035) or ip6.arpa (RFC 3596).
    Reverse(IpAddr),
    /// `_8080._tcp.web`: a port of a name (RFC 2782).
    Service(u16, Protocol, &'a str),
}

impl Question {
    /// The question for these labels, from the left to the right.
    pub(super) fn new<'a>(labels: impl Iterator<Item = &'a [u8]>, kind: RecordType) -> Self {
        let mut text = String::new();
        for label in labels {
            if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return Self { text: String::new(), kind };
            }
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
        Self { text, kind }
    }

    /// Whether the name has no dot.
    pub(super) fn is_dotless(&self) -> bool {
        !self.text.is_empty() && !self.text.contains('.')
    }

    /// What the name stands for.
    pub(super) fn form(&self) -> Form<'_> {
        if let Some(address) = reverse(&self.text) {
            return Form::Reverse(address);
        }
        service(&self.text).unwrap_or(Form::Name(&self.text))
    }
}

fn reverse(text: &str) -> Option<IpAddr> {
    if let Some(digits) = text.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = digits.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let digits = text.strip_suffix(".ip6.arpa")?;
    let (mut bits, mut count) = (0_u128, 0);
    for digit in digits.split('.') {
        let [digit] = digit.as_bytes() else { return None };
        let value = char::from(*digit).to_digit(16)?;
        bits = bits >> 4 | u128::from(value) << 124;
        count += 1;
        if count > 32 {
            return None;
        }
    }
    (count == 32).then(|| Ipv6Addr::from(bits).into())
}

fn service(text: &str) -> Option<Form<'_>> {
    let (port, rest) = text.strip_prefix('_')?.split_once("._")?;
    let (protocol, name) = rest.split_once('.')?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    Some(Form::Service(port, protocol.parse().ok()?, name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(text: &str) -> Question {
        Question::new(text.split('.').map(str::as_bytes), RecordType::A)
    }

    #[test]
    fn names_are_compared_in_lower_case_and_foreign_characters_make_none_of_ours() {
        assert_eq!(ask("Web.OV_net1").text, "web.ov_net1");
        assert_eq!(ask("w*b").text, "");
        assert_eq!(
            Question::new([b"a.b".as_slice()].into_iter(), RecordType::A).text,
            "",
            "a dot in a label"
        );
        assert!(ask("web").is_dotless() && !ask("web.net").is_dotless() && !ask("w*b").is_dotless());
    }

    #[test]
    fn services_have_a_port_and_a_protocol() {
        assert_eq!(ask("_8080._tcp.web.net").form(), Form::Service(8080, Protocol::Tcp, "web.net"));
        for name in
            ["_0._tcp.web", "_http._tcp.web", "_80._icmp.web", "_80._tcp", "80.tcp.web", "_70000._udp.a"]
        {
            assert_eq!(ask(name).form(), Form::Name(name));
        }
    }

    #[test]
    fn half_an_address_is_a_name() {
        for name in
            ["0.10.in-addr.arpa", "1.0.0.0.10.in-addr.arpa", "256.0.0.10.in-addr.arpa", "1.0.ip6.arpa"]
        {
            assert_eq!(ask(name).form(), Form::Name(name));
        }
    }

    proptest! {
        #[test]
        fn the_reverse_name_of_an_address_is_that_address(v4: u32, v6: u128) {
            for address in [IpAddr::from(Ipv4Addr::from(v4)), Ipv6Addr::from(v6).into()] {
                let name = hickory_proto::rr::Name::from(address);
                let question = Question::new(name.iter(), RecordType::PTR);
                prop_assert_eq!(question.form(), Form::Reverse(address));
            }
        }
    }
}
