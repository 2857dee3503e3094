//! Logs: to the journal with their fields under systemd, else to stderr.

use std::io::IsTerminal;

use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry::Registry, util::SubscriberInitExt,
};

/// Start logging at `level` (tracing's directives, checked by the configuration). Once for a process.
pub fn start(level: &str) {
    // JOURNAL_STREAM is set by systemd where stderr is the journal's (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match journal {
        Some(journal) => Box::new(journal.with_filter(EnvFilter::new(level))),
        None => Box::new(
            tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
                .with_target(false)
                .with_filter(EnvFilter::new(level)),
        ),
    };
    // A second subscriber would be a mistake of ours; the first one stays.
    if let Err(error) = tracing_subscriber::registry().with(layer).try_init() {
        tracing::debug!(%error, "logging was started already");
    }
}
