//! `ovagent`, the per-host agent of ovnet.

use std::process::ExitCode;

use ovagent::{
    app,
    config::{self, LoadError, Verb},
    telemetry,
};

fn main() -> ExitCode {
    let config = match config::load(std::env::args_os(), |name| std::env::var_os(name)) {
        Ok(config) => config,
        Err(LoadError::Usage(usage)) => usage.exit(),
        Err(LoadError::Mistakes(mistakes)) => {
            eprintln!("ovagent: {mistakes}");
            return ExitCode::from(2);
        }
    };
    telemetry::start(&config.log_level);
    let done = match config.verb {
        Verb::Run => app::run(config),
        Verb::Cleanup { force } => app::cleanup(config, force),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ovagent: {error:#}");
            ExitCode::FAILURE
        }
    }
}
