//! `ovctl store`.

use clap::{Args, Subcommand};
use ovnet_proto::v1 as pb;
use serde_json::{Value, json};

use crate::{
    cli::Context,
    failure::{Exit, Failure},
    output::InspectFormat,
};

/// `store …`
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print every key of the store with its value as JSON, one object a line
    Dump(Dump),
}

impl Command {
    /// # Errors
    /// What the agent refuses, or that it cannot be reached.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        match self {
            Self::Dump(dump) => dump.run(cx).await,
        }
    }
}

/// `store dump`
#[derive(Args, Debug)]
pub(crate) struct Dump {
    /// Print each object over several lines, indented
    #[arg(long, conflicts_with = "format")]
    pretty: bool,
    /// Print as `json` (as without) or by a Go template over .Key, .Value, .ModRevision and .Store
    #[arg(long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
}

impl Dump {
    async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        let mut entries = cx.agent().await?.dump_store(pb::DumpStoreRequest {}).await?.into_inner();
        while let Some(entry) = entries.message().await? {
            // A value that is no JSON is shown as the text that it is.
            let value: Value = serde_json::from_str(&entry.json).unwrap_or(Value::String(entry.json));
            let object = json!({
                "Key": entry.key, "Value": value, "ModRevision": entry.mod_revision, "Store": entry.store,
            });
            let text = match &self.format {
                None if self.pretty => format!("{object:#}"),
                None | Some(InspectFormat::Json) => object.to_string(),
                Some(InspectFormat::Template(template)) => template.render(&object)?,
            };
            cx.out.line(&text)?;
        }
        Ok(Exit::DONE)
    }
}
