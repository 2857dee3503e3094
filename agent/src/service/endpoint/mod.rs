//! Endpoints: `network connect` and `disconnect`.
//!
//! `attach` is the verb; `claim` chooses and commits with `choosing`, `draft`, `terms` (who may join) and `ports`; `detach` and
//! `take_back` remove what there is of an endpoint.

mod attach;
mod choice;
mod choosing;
mod claim;
mod detach;
mod draft;
mod ports;
mod spec;
mod take_back;
mod terms;

pub(super) use choosing::Choosing;
pub use ports::PortSpec;
pub(super) use ports::ReadListeners;
pub use spec::{AttachSpec, Attached};
