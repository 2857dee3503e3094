//! The per-host agent of ovnet. `docs/ARCHITECTURE.md` has the map.

pub mod api;
pub mod app;
pub mod config;
pub mod convert;
pub mod core;
pub mod dns;
pub mod drivers;
pub mod gossip;
pub mod host;
pub mod intent;
pub mod ipam;
pub mod kernel;
pub mod model;
pub mod plan;
pub mod reconcile;
pub mod service;
pub mod store;
pub mod telemetry;
