//! `events`: what changes, as it changes. A listener that is too slow gets an error and is cut off.

use ovnet_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::service::{Action, Event, Events, Missed, Subject};

/// Events as they come.
pub(super) fn stream(mut events: Events) -> ReceiverStream<Result<v1::Event, Status>> {
    let (out, stream) = mpsc::channel(64);
    // Ends with its listener: sending fails then.
    tokio::spawn(async move {
        while let Some(next) = events.next().await {
            let event = next.map(event).map_err(|Missed(missed)| {
                Status::data_loss(format!("{missed} events were lost because the client read too slowly"))
            });
            let last = event.is_err();
            let sent = tokio::select! {
                sent = out.send(event) => sent,
                () = out.closed() => return,
            };
            if sent.is_err() || last {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

fn event(event: Event) -> v1::Event {
    let (noun, id, network) = match event.subject {
        Subject::Network(id) => ("network", id.to_string(), None),
        Subject::Endpoint { id, network } => ("endpoint", id.to_string(), Some(network)),
        Subject::Node(id) => ("node", id.to_string(), None),
        Subject::Sandbox(name) => ("sandbox", name.to_string(), None),
    };
    let action = match event.action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Remove => "remove",
        Action::Alive => "alive",
        Action::Expired => "expired",
    };
    v1::Event {
        time_ms: event.at.0,
        r#type: noun.to_owned(),
        action: action.to_owned(),
        id,
        name: event.name,
        attributes: network.into_iter().map(|name| ("network".to_owned(), name)).collect(),
    }
}
