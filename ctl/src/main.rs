//! `ovctl`, the command line of ovnet: asks the agent of this host over its unix socket.
//! `cli` is the command line, `cmd` has a room for each noun, `wanted` (with `attachment`, `port` and `names`) is what one can
//! choose of a sandbox, `output` prints, and `process` enters sandboxes.

#![allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "the doc comments of arguments are their help text, where brackets are just that"
)]

mod address;
mod attachment;
mod cli;
mod client;
mod cmd;
mod failure;
mod filter;
mod names;
mod output;
mod pairs;
mod patience;
mod port;
mod process;
mod wanted;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let exit = cli::Cli::parse().run().unwrap_or_else(|failure| {
        failure.report();
        failure.exit()
    });
    ExitCode::from(exit.0)
}
