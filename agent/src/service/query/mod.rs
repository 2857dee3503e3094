//! The questions: lists, inspects, and whatever else is asked without a change. A file for each noun.
//!
//! An answer is nouns of `model` with small types of ours around them, so that each front says them in its own words.

mod diff;
mod dump;
mod endpoints;
mod events;
mod networks;
mod nodes;
mod sandboxes;
mod state;

pub use diff::{Difference, UnitName};
pub use dump::{RecordKind, StoreRecord};
pub use endpoints::EndpointDetail;
pub use events::{Action, Event, Events, Missed, Subject};
pub use networks::{NetworkDetail, NetworkUsage};
pub use nodes::NodeState;
pub use sandboxes::{SandboxDetail, SandboxState};
pub use state::{AgentState, StoreState};
