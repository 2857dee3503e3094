//! VXLAN network identifiers.

use std::{fmt, str::FromStr};

use super::Invalid;

/// A VXLAN network identifier (RFC 7348 section 5): 24 bits, never 0 here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vni(u32);

impl Vni {
    /// The largest one.
    pub const MAX: u32 = (1 << 24) - 1;
    /// The first one that is allocated automatically, as in Docker.
    pub const FIRST_AUTOMATIC: u32 = 256;

    /// The identifier with this number.
    ///
    /// # Errors
    /// Outside 1 to 16777215.
    pub fn new(number: u32) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Invalid::new("VNI", number.to_string(), "expected a number from 1 to 16777215"))
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vni {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |_| Invalid::new("VNI", text, "expected a number from 1 to 16777215");
        text.parse().map_err(wrong).and_then(Self::new)
    }
}
