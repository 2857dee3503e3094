//! The error of parsing: the input, what is wrong with it, and what is expected.

/// An input value that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {input:?}: {reason}")]
pub struct Invalid {
    /// The noun: "network name", "subnet", "MAC address".
    pub what: &'static str,
    /// The input as it came.
    pub input: String,
    /// What is wrong and what is expected.
    pub reason: String,
}

impl Invalid {
    /// An error about `input`, which should have been a `what`.
    pub fn new(what: &'static str, input: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what, input: input.into(), reason: reason.into() }
    }
}
