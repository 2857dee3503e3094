//! Logs: to the journal with their fields under systemd, else to stderr.

use std::io::IsTerminal;

use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry::Registry, util::SubscriberInitExt,
};

/// Crates below us whose details help nobody who looks for ours: each frame of each connection.
const CHATTY: [&str; 4] = ["h2", "hyper", "hyper_util", "tower"];

/// A level alone is meant for the agent; directives are taken as they are.
fn directives(level: &str) -> String {
    if level.parse::<tracing::Level>().is_err() {
        return level.to_owned();
    }
    let quiet = CHATTY.map(|name| format!("{name}=warn")).join(",");
    format!("{level},{quiet}")
}

/// Start logging at `level` (tracing's directives, checked by the configuration). Once for a process.
pub fn start(level: &str) {
    let level = &directives(level);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_quietens_the_transport_and_directives_stay_as_they_are() {
        assert_eq!(directives("debug"), "debug,h2=warn,hyper=warn,hyper_util=warn,tower=warn");
        assert!(EnvFilter::try_new(directives("TRACE")).is_ok());
        for own in ["info,h2=trace", "ovagent::gossip=debug"] {
            assert_eq!(directives(own), own);
        }
    }
}
