//! Options that make no sense in some modes, and the words that say so.

use crate::failure::Failure;

/// An option that was given, by what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The interface in a network.
    Interface(&'static str),
    /// Ports at the host.
    Ports(&'static str),
    /// Ports that may be published.
    Exposed(&'static str),
    /// Hostname and domain.
    Hostname(&'static str),
    /// /etc/hosts and /etc/resolv.conf.
    Files(&'static str),
    /// The sandbox itself.
    Sandbox(&'static str),
}

impl Given {
    fn option(self) -> &'static str {
        match self {
            Self::Interface(option)
            | Self::Ports(option)
            | Self::Exposed(option)
            | Self::Hostname(option)
            | Self::Files(option)
            | Self::Sandbox(option) => option,
        }
    }

    fn refusal(self, mode: &str, reason: &str) -> Failure {
        let option = self.option();
        Failure::Usage(format!(
            "{option} cannot be combined with --network {mode}: {reason}; leave one of the two out"
        ))
    }

    /// Why it does not go with `--network none`; None: it does.
    pub(crate) fn against_none(self) -> Option<Failure> {
        match self {
            Self::Interface(_) | Self::Ports(_) => {
                Some(self.refusal("none", "such a sandbox has no network"))
            }
            Self::Exposed(_) | Self::Hostname(_) | Self::Files(_) | Self::Sandbox(_) => None,
        }
    }

    /// Why it does not go without any network; None: it does.
    pub(crate) fn without_network(self) -> Option<Failure> {
        match self {
            Self::Interface(option) | Self::Ports(option) => Some(Failure::Usage(format!(
                "{option} applies to the sandbox's first network, and it has none: add --network NETWORK"
            ))),
            Self::Exposed(_) | Self::Hostname(_) | Self::Files(_) | Self::Sandbox(_) => None,
        }
    }

    /// Why it does not go with `--network host`; None: it does.
    pub(crate) fn against_host(self) -> Option<Failure> {
        let reason = match self {
            Self::Interface(_) => "the process has the host's own interfaces",
            Self::Ports(_) => "the process listens on the host's own ports",
            Self::Files(_) => "the process has the host's own /etc/hosts and /etc/resolv.conf",
            Self::Sandbox(_) => "this starts no sandbox, only a process on the host's network",
            Self::Exposed(_) | Self::Hostname(_) => return None,
        };
        Some(self.refusal("host", reason))
    }

    /// Why it does not go with `--network container:OWNER`; None: it does.
    pub(crate) fn against_container(self, owner: &str) -> Option<Failure> {
        let reason = match self {
            Self::Interface(_) => format!("it has the interfaces of {owner}"),
            Self::Ports(_) | Self::Exposed(_) => {
                format!("its ports are those of {owner}: publish them there")
            }
            Self::Files(_) => format!("it has the hosts and resolv.conf of {owner}"),
            Self::Hostname(_) => format!("it has the hostname of {owner}"),
            Self::Sandbox("--pid" | "--netns") => {
                format!("it has the namespace of {owner}")
            }
            Self::Sandbox(_) => return None,
        };
        Some(self.refusal(&format!("container:{owner}"), &reason))
    }
}
