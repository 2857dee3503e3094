//! `events`: what changes, as it changes.

use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use super::super::{Service, now};
use crate::{
    intent::{Changed, Touched},
    kernel::Kernel,
    model::{EndpointId, Name, NetworkId, NodeId, Timestamp},
    reconcile::world::World,
};

pub use crate::intent::Action;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When this node heard of it.
    pub at: Timestamp,
    /// What.
    pub subject: Subject,
    /// How.
    pub action: Action,
    /// Its name, for people.
    pub name: String,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A network.
    Network(NetworkId),
    /// An endpoint.
    Endpoint {
        /// Its id.
        id: EndpointId,
        /// The name of its network, or the id if that one's record is not known.
        network: String,
    },
    /// A node.
    Node(NodeId),
    /// A sandbox of this node.
    Sandbox(Name),
}

/// So many events were missed, since they were read too slowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed(pub u64);

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    world: Arc<World>,
    changes: broadcast::Receiver<Changed>,
}

impl Events {
    /// The next event. None: there will be no more.
    ///
    /// Cancel-safe: what is not taken is still there for the next call.
    pub async fn next(&mut self) -> Option<Result<Event, Missed>> {
        loop {
            match self.changes.recv().await {
                Ok(change) => {
                    if let Some(event) = event(&self.world, &change) {
                        return Some(Ok(event));
                    }
                }
                Err(RecvError::Lagged(missed)) => return Some(Err(Missed(missed))),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl<K: Kernel> Service<K> {
    /// Events from now on.
    pub fn events(&self) -> Events {
        Events { world: Arc::clone(&self.world), changes: self.world.changes() }
    }
}

fn event(world: &World, change: &Changed) -> Option<Event> {
    let network = |id: NetworkId| {
        let name = world.read(|intent| {
            intent.network(id).and_then(|view| view.network()).map(|network| network.name.to_string())
        });
        name.unwrap_or_else(|| id.to_string())
    };
    let subject = match &change.touched {
        Touched::Network(id) => Subject::Network(*id),
        Touched::Endpoint(of, id) => Subject::Endpoint { id: *id, network: network(*of) },
        Touched::Node(id) | Touched::Alive(id) => Subject::Node(*id),
        Touched::Sandbox(name) => Subject::Sandbox(name.clone()),
        Touched::Member(..) | Touched::Leg(_) => return None,
    };
    Some(Event { at: now(), subject, action: change.action, name: change.name.clone() })
}
