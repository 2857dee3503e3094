//! `ovctl man`, for those who package ovctl.

use std::{fs, path::PathBuf};

use clap::{Args, CommandFactory as _};

use crate::{
    cli::Cli,
    failure::{Exit, Failure},
};

/// `man`
#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Directory for ovctl.1, ovctl-network.1, ovctl-network-create.1 …; made if it is missing
    dir: PathBuf,
}

impl Man {
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        let failed = || Failure::local(format!("write man pages into {}", self.dir.display()));
        fs::create_dir_all(&self.dir).map_err(failed())?;
        clap_mangen::generate_to(Cli::command(), &self.dir).map_err(failed())?;
        Ok(Exit::DONE)
    }
}
