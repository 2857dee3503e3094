//! Talking rtnetlink: sockets, batches, attributes, and requests for links, routes and rows.

pub(super) mod attributes;
pub(super) mod batch;
pub(super) mod links;
pub(super) mod routes;
pub(super) mod rows;
pub(super) mod socket;
