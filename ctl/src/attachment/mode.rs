//! The modes of `--network`: networks, `none`, `host`, `container:NAME`.

use std::{ffi::OsStr, str::FromStr};

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParserFactory},
    error::ErrorKind,
};

use super::{Attachment, Choices};
use crate::failure::Failure;

/// What one `--network` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// A network with what is chosen there.
    Of(Attachment),
    /// No network but `lo`.
    None,
    /// The host's own.
    Host,
    /// That of another sandbox.
    Container(String),
}

impl FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(owner) = container(text) {
            return owner;
        }
        let attachment: Attachment = text.parse()?;
        if let Some(owner) = container(&attachment.network) {
            return owner.and_then(|mode| alone(mode, &attachment));
        }
        match attachment.network.as_str() {
            "none" => alone(Self::None, &attachment),
            "host" => alone(Self::Host, &attachment),
            _ => Ok(Self::Of(attachment)),
        }
    }
}

/// `container:NAME`
fn container(text: &str) -> Option<Result<Network, String>> {
    let owner = text.strip_prefix("container:")?;
    Some(if owner.is_empty() {
        Err("the sandbox's name is missing: expected container:NAME".into())
    } else {
        Ok(Network::Container(owner.to_owned()))
    })
}

/// A mode, which has nothing to choose.
fn alone(mode: Network, attachment: &Attachment) -> Result<Network, String> {
    if attachment.choices == Choices::default() {
        return Ok(mode);
    }
    Err(format!("{} is a mode and takes no choices: expected nothing after it", attachment.network))
}

/// Offers the modes to completion; any name may be a network's.
#[derive(Clone, Debug)]
pub(crate) struct NetworkParser;

impl ValueParserFactory for Network {
    type Parser = NetworkParser;
    fn value_parser() -> NetworkParser {
        NetworkParser
    }
}

impl TypedValueParser for NetworkParser {
    type Value = Network;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<Network, Error> {
        let text = StringValueParser::new().parse_ref(command, arg, value)?;
        text.parse().map_err(|reason: String| {
            let option = arg.map(ToString::to_string).unwrap_or_default();
            command
                .clone()
                .error(ErrorKind::ValueValidation, format!("invalid value '{text}' for '{option}': {reason}"))
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(["bridge", "host", "none"].into_iter().map(PossibleValue::new)))
    }
}

/// What all of `--network` say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Attached to these, at least one.
    Networks(Vec<Attachment>),
    /// Nothing was said, and nothing is usual.
    Unsaid,
    /// No network but `lo`.
    None,
    /// The host's own.
    Host,
    /// That of another sandbox.
    Container(String),
}

impl Mode {
    /// The mode that `networks` say; without any, a network called `usual`.
    ///
    /// # Errors
    /// A mode beside another or a network, or a network twice.
    pub(crate) fn of(networks: Vec<Network>, usual: Option<&str>) -> Result<Self, Failure> {
        let mut attachments: Vec<Attachment> = Vec::new();
        let (mut mode, several) = (None, networks.len() > 1);
        for network in networks {
            let (name, said) = match network {
                Network::Of(attachment) => {
                    if attachments.iter().any(|other| other.network == attachment.network) {
                        let name = attachment.network;
                        return Err(Failure::Usage(format!(
                            "--network {name} is given twice: expected it once"
                        )));
                    }
                    attachments.push(attachment);
                    continue;
                }
                Network::None => ("none".to_owned(), Self::None),
                Network::Host => ("host".to_owned(), Self::Host),
                Network::Container(owner) => (format!("container:{owner}"), Self::Container(owner)),
            };
            if several {
                return Err(Failure::Usage(format!(
                    "--network {name} cannot be combined with another --network: leave one of the two out"
                )));
            }
            mode = Some(said);
        }
        Ok(match (mode, usual) {
            (Some(mode), _) => mode,
            (None, _) if !attachments.is_empty() => Self::Networks(attachments),
            (None, Some(usual)) => Self::Networks(vec![Attachment::of(usual.to_owned(), Choices::default())]),
            (None, None) => Self::Unsaid,
        })
    }
}
