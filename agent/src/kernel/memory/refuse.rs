//! Why a step is refused.

use std::io::{self, ErrorKind};

pub(super) type StepResult = io::Result<()>;

pub(super) fn refuse(kind: ErrorKind, text: impl Into<String>) -> io::Error {
    io::Error::new(kind, text.into())
}
