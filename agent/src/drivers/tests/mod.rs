//! Properties of what drivers want, with the in-memory kernel carrying out the steps.

mod bridge;
pub(super) mod local;
mod overlay;
mod parent;
