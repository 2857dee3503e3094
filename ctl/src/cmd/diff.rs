//! `ovctl diff`.

use clap::Args;
use ovnet_proto::v1 as pb;
use serde_json::json;

use crate::{
    cli::Context,
    failure::{Exit, Failure},
    output::InspectFormat,
};

/// `diff`
#[derive(Args, Debug)]
pub(crate) struct Diff {
    /// End with status 1 when something differs
    #[arg(long)]
    exit_code: bool,
    /// Print as `json` (one object a line) or by a Go template over .Unit and .Operation
    #[arg(long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
    /// Only this network: name, id or a unique beginning of the id
    network: Option<String>,
}

impl Diff {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let request = pb::DiffRequest { network: self.network.unwrap_or_default() };
        let lines = cx.agent().await?.diff(request).await?.into_inner().lines;
        for line in &lines {
            let text = match &self.format {
                None => format!("{}: {}", line.unit, line.operation),
                Some(format) => {
                    let object = json!({"Unit": line.unit, "Operation": line.operation});
                    match format {
                        InspectFormat::Json => object.to_string(),
                        InspectFormat::Template(template) => template.render(&object)?,
                    }
                }
            };
            cx.out.line(&text)?;
        }
        Ok(if self.exit_code && !lines.is_empty() { Exit::REFUSED } else { Exit::DONE })
    }
}
