//! `events`: what changes, as it changes. A listener that is too slow is told so and cut off.

use std::sync::Arc;

use ovnet_proto::v1;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    intent::{Action, Changed, Touched},
    reconcile::world::World,
};

/// Events from now on.
pub(super) fn stream(world: Arc<World>) -> ReceiverStream<Result<v1::Event, Status>> {
    let mut changes = world.changes();
    let (out, events) = mpsc::channel(64);
    // Ends with its listener: sending fails then.
    tokio::spawn(async move {
        loop {
            let event = match changes.recv().await {
                Ok(change) => match event(&world, &change) {
                    Some(event) => Ok(event),
                    None => continue,
                },
                Err(RecvError::Lagged(missed)) => {
                    Err(Status::data_loss(format!("{missed} events were missed: read them faster")))
                }
                Err(RecvError::Closed) => return,
            };
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
    ReceiverStream::new(events)
}

fn event(world: &World, change: &Changed) -> Option<v1::Event> {
    let network = |id| {
        let name = world.read(|intent| {
            intent.network(id).and_then(|view| view.network()).map(|network| network.name.to_string())
        });
        [("network".to_owned(), name.unwrap_or_else(|| id.to_string()))]
    };
    let (noun, id, attributes) = match &change.touched {
        Touched::Network(id) => ("network", id.to_string(), None),
        Touched::Endpoint(of, id) => ("endpoint", id.to_string(), Some(network(*of))),
        Touched::Node(id) | Touched::Alive(id) => ("node", id.to_string(), None),
        Touched::Sandbox(name) => ("sandbox", name.to_string(), None),
        Touched::Member(..) | Touched::Leg(_) => return None,
    };
    let action = match change.action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Remove => "remove",
        Action::Alive => "alive",
        Action::Expired => "expired",
    };
    Some(v1::Event {
        time_ms: crate::service::now().0,
        r#type: noun.to_owned(),
        action: action.to_owned(),
        id,
        name: change.name.clone(),
        attributes: attributes.into_iter().flatten().collect(),
    })
}
