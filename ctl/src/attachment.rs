//! What the command line says of an attachment: `NET[:ip=A][,ip6=A][,mac=M][,alias=N]…`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ovnet_proto::v1 as pb;

/// A network to attach a sandbox to, and what is chosen there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    network: String,
    ip: Option<Ipv4Addr>,
    ip6: Option<Ipv6Addr>,
    mac: Option<MacAddress>,
    aliases: Vec<String>,
}

impl FromStr for Attachment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (network, choices) = text.split_once(':').unwrap_or((text, ""));
        if network.is_empty() {
            return Err(
                "the network's name is missing: expected NETWORK[:ip=A][,ip6=A][,mac=M][,alias=N]".into()
            );
        }
        let mut attachment = Self { network: network.to_owned(), ..Self::default() };
        for choice in choices.split(',').filter(|choice| !choice.is_empty()) {
            match choice.split_once('=') {
                Some(("ip", ip)) => once(&mut attachment.ip, choice, parse_ip(ip)?)?,
                Some(("ip6", ip)) => once(&mut attachment.ip6, choice, parse_ip6(ip)?)?,
                Some(("mac", mac)) => once(&mut attachment.mac, choice, mac.parse()?)?,
                Some(("alias", alias)) if !alias.is_empty() => attachment.aliases.push(alias.to_owned()),
                _ => {
                    return Err(format!("unknown choice {choice:?}: expected ip=A, ip6=A, mac=M or alias=N"));
                }
            }
        }
        Ok(attachment)
    }
}

fn once<T>(place: &mut Option<T>, choice: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_earlier) => Err(format!("{choice:?} is the second of its kind: expected one")),
    }
}

/// An IPv4 address.
///
/// # Errors
/// The text is none.
pub(crate) fn parse_ip(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_reason| format!("{text:?} is no IPv4 address: expected one such as 10.0.0.5"))
}

/// An IPv6 address.
///
/// # Errors
/// The text is none.
pub(crate) fn parse_ip6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_reason| format!("{text:?} is no IPv6 address: expected one such as fd00::5"))
}

/// A MAC address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MacAddress(String);

impl FromStr for MacAddress {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes: Vec<u8> = text
            .split(':')
            .map_while(|pair| {
                u8::from_str_radix(pair, 16).ok().filter(|_byte| pair.len() == 2 && !pair.starts_with('+'))
            })
            .collect();
        let group = bytes.first().is_none_or(|first| first & 1 == 1);
        if bytes.len() != 6 || text.len() != 17 || group {
            return Err(format!(
                "{text:?} is no MAC address of an interface: expected one such as 02:42:0a:00:00:05"
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl Attachment {
    /// The choices of `network connect`, which has an option for each.
    pub(crate) fn of(network: String, choices: Choices) -> Self {
        let Choices { ip, ip6, mac_address, aliases } = choices;
        Self { network, ip, ip6, mac: mac_address, aliases }
    }

    /// As the agent takes it.
    pub(crate) fn message(&self) -> pb::Attachment {
        pb::Attachment {
            network: self.network.clone(),
            ip: self.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            ip6: self.ip6.map(|ip| ip.to_string()).unwrap_or_default(),
            mac_address: self.mac.as_ref().map(|mac| mac.0.clone()).unwrap_or_default(),
            aliases: self.aliases.clone(),
            ..pb::Attachment::default()
        }
    }
}

/// What one can choose of an attachment.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Choices {
    /// IPv4 address of the sandbox in the network
    #[arg(long, value_name = "ADDRESS", value_parser = parse_ip)]
    ip: Option<Ipv4Addr>,
    /// IPv6 address of the sandbox in the network
    #[arg(long, value_name = "ADDRESS", value_parser = parse_ip6)]
    ip6: Option<Ipv6Addr>,
    /// MAC address of the sandbox in the network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<MacAddress>,
    /// Another name of the sandbox in the network; may be given several times
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_names_its_network_and_choices() {
        let text = "net1:ip=10.0.0.5,ip6=fd00::5,mac=02:42:0A:00:00:05,alias=a,alias=b";
        let expected = pb::Attachment {
            network: "net1".into(),
            ip: "10.0.0.5".into(),
            ip6: "fd00::5".into(),
            mac_address: "02:42:0a:00:00:05".into(),
            aliases: vec!["a".into(), "b".into()],
            ..pb::Attachment::default()
        };
        assert_eq!(text.parse::<Attachment>().unwrap().message(), expected);
        assert_eq!("net1".parse::<Attachment>().unwrap().message().network, "net1");
    }

    #[test]
    fn a_malformed_attachment_is_refused_with_what_is_expected() {
        for (text, part) in [
            ("", "name is missing"),
            (":ip=10.0.0.1", "name is missing"),
            ("n:ip=10.0.0", "10.0.0.5"),
            ("n:ip6=10.0.0.1", "fd00::5"),
            ("n:mac=02:42:0a:00:00", "02:42:0a:00:00:05"),
            ("n:mac=01:42:0a:00:00:05", "02:42:0a:00:00:05"),
            ("n:mac=+2:42:0a:00:00:05", "02:42:0a:00:00:05"),
            ("n:port=1", "unknown choice \"port=1\""),
            ("n:ip=10.0.0.1,ip=10.0.0.2", "second of its kind"),
        ] {
            let error = text.parse::<Attachment>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
