//! `ovctl attend-sandbox`: what is left of `run -d --rm`. Away from the terminal, it starts the copy that enters the
//! sandbox, waits for the end of the command, and removes the sandbox.

use std::ffi::OsString;

use clap::Args;
use nix::unistd::setsid;

use super::run::remove;
use crate::{
    cli::Context,
    failure::{Exit, Failure},
    process::{Signals, copy, wait},
};

/// `attend-sandbox`
#[derive(Args, Debug)]
pub(crate) struct Attend {
    /// The sandbox to remove at the end
    sandbox: String,
    /// Arguments of the copy that enters it
    #[arg(required = true, last = true, value_name = "ARGUMENT")]
    enter: Vec<OsString>,
}

impl Attend {
    /// # Errors
    /// The copy cannot be started; the sandbox is removed anyway.
    pub(crate) async fn run(self, cx: &Context) -> Result<Exit, Failure> {
        let exit = self.attend().await;
        remove(cx, &self.sandbox).await;
        exit
    }

    async fn attend(&self) -> Result<Exit, Failure> {
        setsid().map_err(|cause| Failure::local("leave the terminal")(cause.into()))?;
        let mut signals = Signals::listen()?;
        let mut child = copy().args(&self.enter).spawn().map_err(Failure::local("start a copy of ovctl"))?;
        wait(&mut child, &mut signals).await
    }
}
