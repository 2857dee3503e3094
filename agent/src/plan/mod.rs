//! From what is wanted and what is seen to the steps between them: pure and total.
//!
//! [`state`] says what can be wanted, [`ownership`] what is ours, [`op`] what can be done. The `kernel` room looks and
//! applies; `reconcile` brings the two together.

pub mod op;
pub mod ownership;
pub mod ruleset;
pub mod state;
