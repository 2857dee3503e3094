//! Properties of the planner, with the in-memory kernel carrying out the steps. Those of what drivers and the host want stand
//! there, on the same `stage`.

mod op;
mod settings;
pub(crate) mod stage;
