//! Properties of what drivers want, with the in-memory kernel carrying out the steps.

mod bridge;
mod local;
mod overlay;
mod parent;
