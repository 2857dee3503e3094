//! `ovctl port`: where a sandbox's ports are reached.

use clap::Args;
use ovnet_proto::v1 as pb;

use crate::{
    cli::Context,
    failure::{Exit, Failure},
    port::{Binding, Port, bindings},
};

/// `port`
#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The sandbox on this host
    sandbox: String,
    /// Only where this port is reached: PORT[/tcp|udp|sctp]
    #[arg(value_name = "PORT")]
    port: Option<Port>,
}

impl Show {
    /// # Errors
    /// What the agent refuses, that it cannot be reached, or that the port is not published.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let request = pb::InspectSandboxRequest { sandbox: self.sandbox };
        let detail = cx.agent().await?.inspect_sandbox(request).await?.into_inner();
        let published = bindings(&detail.endpoints);
        let Some(port) = self.port else {
            // As Docker does: by number, not by text.
            let mut ports: Vec<_> = published.iter().collect();
            ports.sort_by_key(|(port, _bindings)| {
                port.split_once('/').and_then(|(number, _protocol)| number.parse::<u16>().ok())
            });
            for (port, bindings) in ports {
                bindings.iter().try_for_each(|at| cx.out.line(&format!("{port} -> {}", at.socket())))?;
            }
            return Ok(Exit::DONE);
        };
        let Some(bindings) = published.get(&port.to_string()) else {
            return Err(not_published(port, &detail.sandbox.unwrap_or_default(), published.keys()));
        };
        bindings.iter().map(Binding::socket).try_for_each(|socket| cx.out.line(&socket))?;
        Ok(Exit::DONE)
    }
}

fn not_published<'a>(
    port: Port,
    sandbox: &pb::Sandbox,
    published: impl Iterator<Item = &'a String>,
) -> Failure {
    let known: Vec<&str> = published.map(String::as_str).collect();
    let name = &sandbox.name;
    let hint = match known.as_slice() {
        [] if !sandbox.shares.is_empty() => {
            format!("it shares the namespace of {owner}: see ovctl port {owner}", owner = sandbox.shares)
        }
        [] => "none is".to_owned(),
        _ => format!("published are {}", known.join(", ")),
    };
    Failure::Refused(format!("port {port} of the sandbox {name} is not published: {hint}"))
}
