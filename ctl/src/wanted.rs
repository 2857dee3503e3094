//! What `run` and `sandbox create` let one choose of a sandbox, and what the agent is asked for then.

use clap::Args;
use ovnet_proto::v1 as pb;

use crate::{
    attachment::{Attachment, Choices, Given, Mode, Network},
    failure::Failure,
    names::Names,
    port::{Exposed, MAX_PORTS},
};

/// Endpoint, ports and names of a sandbox.
#[derive(Args, Clone, Debug)]
pub(crate) struct Wanted {
    #[command(flatten)]
    choices: Choices,
    /// Publish each exposed port at a free port of the host
    #[arg(short = 'P', long, help_heading = "Options of the endpoint")]
    publish_all: bool,
    /// Port that --publish-all publishes: PORT[-PORT][/tcp|udp|sctp]; may be given several times
    #[arg(long = "expose", value_name = "PORT", help_heading = "Options of the endpoint")]
    exposed: Vec<Exposed>,
    #[command(flatten)]
    names: Names,
}

/// Where a process is to run.
#[derive(Clone, Debug)]
pub(crate) enum Where {
    /// In a sandbox to be made.
    Sandbox(Box<pb::CreateSandboxRequest>),
    /// On the host's network.
    Host {
        /// The hostname that it sees; empty: the host's.
        hostname: String,
        /// The domain; empty: the host's.
        domain: String,
    },
}

impl Wanted {
    /// What to ask for with these `networks`; without any, with the one called `usual`. `others` are further options that were given.
    ///
    /// # Errors
    /// Options that contradict each other, or that make no sense with the mode.
    pub(crate) fn on(
        self,
        networks: Vec<Network>,
        usual: Option<&str>,
        others: &[Given],
    ) -> Result<Where, Failure> {
        let mode = Mode::of(networks, usual)?;
        let refusal = |why: &dyn Fn(Given) -> Option<Failure>| {
            let refused = self.given().chain(others.iter().copied()).find_map(why);
            refused.map_or(Ok(()), Err)
        };
        let mut request = pb::CreateSandboxRequest::default();
        match mode {
            Mode::Host => {
                refusal(&Given::against_host)?;
                let (hostname, domain) = self.names.of_host();
                return Ok(Where::Host { hostname, domain });
            }
            Mode::None => refusal(&Given::against_none)?,
            Mode::Unsaid => refusal(&Given::without_network)?,
            Mode::Container(owner) => {
                refusal(&|given: Given| given.against_container(&owner))?;
                request.share = owner;
                return Ok(Where::Sandbox(Box::new(request)));
            }
            Mode::Networks(networks) => {
                request.attachments = attachments(networks, self.choices)?;
                if self.publish_all {
                    publish_all(&mut request.attachments, &self.exposed)?;
                }
            }
        }
        self.names.fill(&mut request);
        Ok(Where::Sandbox(Box::new(request)))
    }

    /// The options that were given.
    fn given(&self) -> impl Iterator<Item = Given> {
        let all = self.publish_all.then_some(Given::Ports("--publish-all"));
        let exposed = (!self.exposed.is_empty()).then_some(Given::Exposed("--expose"));
        self.choices.given().into_iter().chain(all).chain(exposed).chain(self.names.given())
    }
}

/// The networks, the first with what options choose.
fn attachments(networks: Vec<Attachment>, choices: Choices) -> Result<Vec<pb::Attachment>, Failure> {
    let mut choices = Some(choices);
    let chosen = networks.into_iter().map(|network| match choices.take() {
        Some(choices) => network.and(choices)?.message(),
        None => network.message(),
    });
    chosen.collect()
}

/// Adds the exposed ports that are not published yet to the first network.
fn publish_all(attachments: &mut [pb::Attachment], exposed: &[Exposed]) -> Result<(), Failure> {
    if exposed.is_empty() {
        return Err(Failure::Usage(
            "--publish-all publishes the ports given with --expose, and none is given: add --expose PORT"
                .into(),
        ));
    }
    let Some(first) = attachments.first_mut() else { return Ok(()) };
    for request in exposed.iter().flat_map(|exposed| exposed.requests()) {
        let same =
            |other: &pb::PortRequest| (&other.protocol, other.port) == (&request.protocol, request.port);
        if first.ports.iter().any(same) {
            continue;
        }
        if first.ports.len() >= MAX_PORTS {
            return Err(Failure::Usage(format!(
                "more than {MAX_PORTS} ports are to be published in {}: expected at most that many",
                first.network
            )));
        }
        first.ports.push(request);
    }
    Ok(())
}
