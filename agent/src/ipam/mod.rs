//! Address space: pools from which subnets come, subnets as people ask for them, and the choice of one address.
//!
//! All of it is pure: who has what comes in as sets, and the transactions that make a choice final are the caller's.

mod choose;
mod kind;
mod pools;
mod request;
mod span;

pub use choose::{Exhausted, Pick, Usage, check_chosen, choose, usage};
pub use kind::SubnetKind;
pub use pools::{Pool, default_pools, overlapping, pick_subnet};
pub use request::{SubnetRequest, automatic, parse_subnets};

#[cfg(test)]
mod tests;
