//! Properties of the planner and of what drivers want, with the in-memory kernel carrying out the steps.

mod bridge;
mod drivers;
mod firewall;
mod host;
mod overlay;
mod packet;
mod parent;
mod settings;
mod stage;
