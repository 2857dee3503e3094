//! Endpoints: `network connect` and `disconnect`.
//!
//! `attach` is the verb; `claim` chooses and commits with `choosing`, `draft`, `terms` (who may join) and `ports`; `detach` and
//! `take_back` remove what there is of an endpoint.

mod attach;
mod choosing;
mod claim;
mod detach;
mod draft;
mod ports;
mod take_back;
mod terms;

pub use attach::{AttachSpec, Attached};
pub(super) use choosing::Choosing;
pub use ports::PortSpec;
pub(super) use ports::ReadListeners;
