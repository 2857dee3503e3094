//! Endpoints: `network connect` and `disconnect`.
//!
//! `attach` is the verb; `claim` chooses and commits with `choosing`, `draft`, `terms` (who may join) and `ports`; `detach` and
//! `roll_back` remove what there is of an endpoint.

mod admission;
mod allocate;
mod attach;
mod choice;
mod detach;
mod draft;
mod ports;
mod reservations;
mod rollback;
mod spec;

pub use ports::PortSpec;
pub(super) use reservations::Choosing;
pub use spec::{AttachSpec, Attached};
