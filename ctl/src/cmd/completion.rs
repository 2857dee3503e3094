//! `ovctl completion`.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::{Shell, generate};

use crate::{
    cli::{Cli, Context},
    failure::{Exit, Failure},
};

/// `completion`
///
/// bash: ovctl completion bash > /etc/bash_completion.d/ovctl;
/// zsh: ovctl completion zsh > "${fpath[1]}/_ovctl";
/// fish: ovctl completion fish > ~/.config/fish/completions/ovctl.fish
#[derive(Args, Debug)]
pub(crate) struct Completion {
    shell: Kind,
}

/// The shells that there is a script for.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Bash,
    Fish,
    Zsh,
}

impl Completion {
    /// # Errors
    /// Standard output fails.
    pub(crate) fn run(&self, cx: &mut Context) -> Result<Exit, Failure> {
        let shell = match self.shell {
            Kind::Bash => Shell::Bash,
            Kind::Fish => Shell::Fish,
            Kind::Zsh => Shell::Zsh,
        };
        let mut script = Vec::new();
        generate(shell, &mut Cli::command(), "ovctl", &mut script);
        cx.out.bytes(&script)?;
        Ok(Exit::DONE)
    }
}
