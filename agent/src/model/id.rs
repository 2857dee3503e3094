//! Identifiers. Networks, endpoints and sandboxes have 256 random bits, written as 64 hex digits as in Docker; nodes
//! and clusters have a UUID.

use std::{fmt, str::FromStr};

use super::Invalid;

/// Bytes of a random identifier.
const LEN: usize = 32;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

fn parse_hex(what: &'static str, text: &str) -> Result<[u8; LEN], Invalid> {
    let wrong = || Invalid::new(what, text, "expected 64 lower-case hex digits");
    let digits = text.as_bytes();
    if digits.len() != 2 * LEN {
        return Err(wrong());
    }
    let mut bytes = [0; LEN];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(wrong()),
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

/// In one step, because keys contain identifiers and a start parses and prints many keys.
fn write_hex(bytes: &[u8; LEN], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0; 2 * LEN];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xf)];
    }
    f.write_str(str::from_utf8(&text).map_err(|_not_ascii| fmt::Error)?)
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; LEN]);

        impl $name {
            /// The identifier with these bytes; the caller supplies the randomness.
            pub const fn from_bytes(bytes: [u8; LEN]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; LEN] {
                &self.0
            }

            /// The first 12 hex digits, as lists show it.
            pub fn short(&self) -> String {
                self.prefix(12)
            }

            /// The first `digits` hex digits.
            pub fn prefix(&self, digits: usize) -> String {
                let mut text = self.to_string();
                text.truncate(digits);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                parse_hex($what, text).map(Self)
            }
        }
    };
}

hex_id!(
    /// A network's identifier.
    NetworkId,
    "network id"
);
hex_id!(
    /// An endpoint's identifier.
    EndpointId,
    "endpoint id"
);
hex_id!(
    /// A sandbox's identifier, unique on its node.
    SandboxId,
    "sandbox id"
);

/// A node's identifier: made once and kept in the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NodeId(pub uuid::Uuid);

impl NodeId {
    /// The first 12 hex digits, as lists show it.
    pub fn short(&self) -> String {
        let mut text = self.0.simple().to_string();
        text.truncate(12);
        text
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for NodeId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        uuid::Uuid::parse_str(text)
            .map(Self)
            .map_err(|error| Invalid::new("node id", text, format!("expected a UUID: {error}")))
    }
}

/// A cluster's identity: made once in its store, and kept by every node of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub uuid::Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for ClusterId {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        uuid::Uuid::parse_str(text)
            .map(Self)
            .map_err(|error| Invalid::new("cluster id", text, format!("expected a UUID: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hex_id_reads_back_what_it_prints() {
        let id = NetworkId::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap() * 7));
        assert_eq!(id.to_string().parse::<NetworkId>().unwrap(), id);
        assert_eq!(id.short(), "00070e151c23");
    }

    #[test]
    fn a_wrong_hex_id_is_quoted_in_the_error() {
        for text in ["", "12", &"g".repeat(64), &"A".repeat(64)] {
            assert_eq!(text.parse::<EndpointId>().unwrap_err().input, text);
        }
    }
}
