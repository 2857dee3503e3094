//! `ovctl events`.

use clap::Args;
use ovnet_proto::v1 as pb;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::Context,
    failure::{Exit, Failure},
    filter::{Filter, admits},
    output::{InspectFormat, pairs, rfc3339},
};

const FILTERS: &[&str] = &["action", "event", "id", "name", "type"];

/// `events`
#[derive(Args, Debug)]
pub(crate) struct Events {
    /// Print as `json` (one object a line) or by a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<InspectFormat>,
    /// Only events with type=network, endpoint, node or sandbox, action=A, name=N, or id=I (its beginning)
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = |text: &str| Filter::parse(text, FILTERS))]
    filters: Vec<Filter>,
}

impl Events {
    /// Prints events until Ctrl-C.
    ///
    /// # Errors
    /// The agent cannot be reached, or ends.
    pub(crate) async fn run(self, cx: &mut Context) -> Result<Exit, Failure> {
        // Before the first event, so that Ctrl-C never meets the default action afterwards.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::local("wait for Ctrl-C"))?;
        let mut agent = cx.agent().await?;
        let mut events = agent.events(pb::EventsRequest {}).await?.into_inner();
        loop {
            // Both arms may be dropped: the stream keeps a half-read event, and Ctrl-C ends the loop.
            let event = tokio::select! {
                event = events.message() => event?,
                _ctrl_c = interrupt.recv() => return Ok(Exit::DONE),
            };
            let Some(event) = event else {
                return Err(Failure::Unreachable(
                    "the agent ended the stream of events: it is stopping".into(),
                ));
            };
            if self.admits(&event) {
                cx.out.line(&self.text(&event)?)?;
                cx.out.flush()?;
            }
        }
    }

    fn admits(&self, event: &pb::Event) -> bool {
        admits(&self.filters, |key, value| match key {
            "type" => event.r#type == value,
            "id" => event.id.starts_with(value),
            "name" => event.name == value,
            _ => event.action == value,
        })
    }

    fn text(&self, event: &pb::Event) -> Result<String, Failure> {
        let time = rfc3339(event.time_ms);
        let Some(format) = &self.format else {
            let mut attributes = pairs(&event.attributes).replace(',', ", ");
            if !event.name.is_empty() {
                let more = if attributes.is_empty() { "" } else { ", " };
                attributes.insert_str(0, &format!("name={}{more}", event.name));
            }
            let note = if attributes.is_empty() { String::new() } else { format!(" ({attributes})") };
            return Ok(format!("{time} {} {} {}{note}", event.r#type, event.action, event.id));
        };
        let object = json!({
            "Time": time, "TimeMs": event.time_ms, "Type": event.r#type, "Action": event.action,
            "Id": event.id, "Name": event.name, "Attributes": event.attributes,
        });
        Ok(match format {
            InspectFormat::Json => object.to_string(),
            InspectFormat::Template(template) => template.render(&object)?,
        })
    }
}
