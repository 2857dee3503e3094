//! What the command line says of a sandbox's networks: `NET[:ip=A][,alias=N]…`, Docker's `name=NET,ip=A,alias=N…`, and the
//! modes `none`, `host` and `container:NAME`.

mod choices;
mod conflict;
mod fields;
mod mode;

use std::str::FromStr;

use ovnet_proto::v1 as pb;

use crate::failure::Failure;

pub(crate) use choices::Choices;
pub(crate) use conflict::Given;
pub(crate) use mode::{Mode, Network};

/// A network to attach a sandbox to, and what is chosen there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The network's name or id.
    network: String,
    choices: Choices,
}

const EXPECTED: &str = "expected NETWORK[:ip=A][,ip6=A][,mac=M][,alias=N]… or name=NETWORK[,ip=A]…";

impl FromStr for Attachment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // `name=n,ip6=fd00::5` is the long form, `n:ip=10.0.0.5` the short one.
        let long = text.find('=').is_some_and(|at| text.find(':').is_none_or(|colon| at < colon));
        let (network, fields) = if long { ("", text) } else { text.split_once(':').unwrap_or((text, "")) };
        let mut attachment = Self { network: network.to_owned(), choices: Choices::default() };
        for field in fields::split(fields)?.iter().filter(|field| !field.is_empty()) {
            match field.strip_prefix("name=").filter(|_name| long) {
                Some(_second) if !attachment.network.is_empty() => {
                    return Err(format!("{field:?} is given twice: expected it once"));
                }
                Some(name) => attachment.network = name.to_owned(),
                None => attachment.choices.take(field)?,
            }
        }
        if attachment.network.is_empty() {
            return Err(format!("the network's name is missing: {EXPECTED}"));
        }
        Ok(attachment)
    }
}

impl Attachment {
    /// A network, and the options that go with it.
    pub(crate) fn of(network: String, choices: Choices) -> Self {
        Self { network, choices }
    }

    /// The same with what options choose as well.
    ///
    /// # Errors
    /// Both choose what there can be one of.
    pub(crate) fn and(self, options: Choices) -> Result<Self, Failure> {
        let choices = self.choices.and(&self.network, options)?;
        Ok(Self { network: self.network, choices })
    }

    /// As the agent takes it.
    ///
    /// # Errors
    /// One option of the endpoint has two values, or more ports than there can be.
    pub(crate) fn message(self) -> Result<pb::Attachment, Failure> {
        self.choices.message(self.network)
    }
}

#[cfg(test)]
mod tests;
