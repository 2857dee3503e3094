//! A setting's value as it was written.

use super::Source;

/// A value as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) source: Source,
}
