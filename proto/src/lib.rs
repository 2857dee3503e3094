//! The wire of ovnet, generated from `ov/v1/*.proto` and nothing else: the API between `ovctl` and `ovagent`, and
//! the values in the store. `ovagent`'s `convert` room is where these messages meet the model.

/// Version 1 of every message and of the `Agent` service.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    rustdoc::invalid_html_tags,
    rustdoc::broken_intra_doc_links,
    reason = "generated code, documented in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("ov.v1");
}
