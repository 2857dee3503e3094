//! `ovctl version`: of ovctl, also when the agent is away, and of the agent.

use std::env::consts::{ARCH, OS};

use clap::Args;
use ovnet_proto::v1 as pb;
use serde_json::{Value, json};

use crate::{
    cli::Context,
    failure::{Exit, Failure},
    output::{InspectFormat, Out},
};

/// The API that this ovctl speaks.
const API: &str = "v1";

/// `version`
#[derive(Args, Debug)]
pub(crate) struct Version {
    /// Print as `json` or by a Go template over .Client and .Agent
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
}

impl Version {
    /// # Errors
    /// The agent cannot be reached; the client's part is printed anyway.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let agent = ask(cx).await;
        match &self.format {
            None => sections(&mut cx.out, agent.as_ref().ok())?,
            Some(format) => {
                let object = json!({
                    "Client": {"Version": env!("CARGO_PKG_VERSION"), "ApiVersion": API, "Os": OS, "Arch": arch()},
                    "Agent": agent.as_ref().map_or(Value::Null, fields),
                });
                let text = match format {
                    InspectFormat::Json => object.to_string(),
                    InspectFormat::Template(template) => template.render(&object)?,
                };
                cx.out.line(&text)?;
            }
        }
        agent.map(|_version| Exit::DONE)
    }
}

/// The processor as Docker calls it.
fn arch() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn ask(cx: &Context) -> Result<pb::VersionResponse, Failure> {
    Ok(cx.agent().await?.version(pb::VersionRequest {}).await?.into_inner())
}

fn fields(agent: &pb::VersionResponse) -> Value {
    json!({
        "Version": agent.version, "ApiVersion": agent.api, "NodeID": agent.node_id, "NodeName": agent.node_name,
        "Store": agent.store, "KernelVersion": agent.kernel, "StateDir": agent.state_dir,
        "RunDir": agent.run_dir, "NetnsDir": agent.netns_dir,
    })
}

fn sections(out: &mut Out, agent: Option<&pb::VersionResponse>) -> Result<(), Failure> {
    let mut section = |title: &str, rows: &[(&str, &str)]| {
        out.line(title)?;
        rows.iter().try_for_each(|(name, value)| out.line(format!(" {name:<16}{value}").trim_end()))
    };
    let platform = format!("{OS}/{}", arch());
    let version = env!("CARGO_PKG_VERSION");
    section("Client:", &[("Version:", version), ("API version:", API), ("OS/Arch:", &platform)])?;
    let Some(agent) = agent else { return Ok(()) };
    let node = format!("{} ({})", agent.node_name, agent.node_id);
    section(
        "\nAgent:",
        &[
            ("Version:", &agent.version),
            ("API version:", &agent.api),
            ("Node:", &node),
            ("Store:", &agent.store),
            ("Kernel:", &agent.kernel),
            ("State dir:", &agent.state_dir),
            ("Run dir:", &agent.run_dir),
            ("Netns dir:", &agent.netns_dir),
        ],
    )
}
