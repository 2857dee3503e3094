//! Asking before something is removed.

use std::io::{self, BufRead, IsTerminal};

use crate::{failure::Failure, output::say};

/// Asks on the terminal.
///
/// # Errors
/// The answer is not y, or nobody can be asked.
pub(crate) fn confirm(warning: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Refused(
            "this needs a confirmation, and standard input is not a terminal: add -f to skip the confirmation"
                .into(),
        ));
    }
    say(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::local("read the answer"))?;
    if answer.trim().eq_ignore_ascii_case("y") {
        return Ok(());
    }
    Err(Failure::Refused("nothing was removed: the answer was not y".into()))
}
