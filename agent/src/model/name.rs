//! Names that people choose, and names of interfaces.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use super::Invalid;

/// The name of a network, endpoint, sandbox, node or alias: starts with a letter or a digit, then letters, digits,
/// `_`, `.` and `-`, at most 63 bytes (one DNS label, and a file name). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Longest name, in bytes.
    pub const MAX: usize = 63;

    /// The name in `text`; `what` names the noun in the error ("network name").
    ///
    /// # Errors
    /// Empty, too long, or with a character that is not allowed.
    pub fn parse(what: &'static str, text: &str) -> Result<Self, Invalid> {
        let wrong = |reason: String| Err(Invalid::new(what, text, reason));
        if text.is_empty() {
            return wrong("it is empty".into());
        }
        if text.len() > Self::MAX {
            return wrong(format!(
                "it has {} characters, at most {} are allowed",
                text.chars().count(),
                Self::MAX
            ));
        }
        let bad =
            |(at, c): &(usize, char)| !(c.is_ascii_alphanumeric() || *at > 0 && matches!(c, '_' | '.' | '-'));
        if let Some((at, c)) = text.char_indices().find(bad) {
            let rule =
                "a name starts with a letter or digit and goes on with letters, digits, '_', '.' and '-'";
            return wrong(format!("character {c:?} at position {} is not allowed: {rule}", at + 1));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse("name", text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The name of a network interface: 1 to 15 bytes, no white space, '/' or ':' (`dev_valid_name` in the kernel's
/// net/core/dev.c).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl IfName {
    /// Longest name, in bytes (IFNAMSIZ less the closing zero).
    pub const MAX: usize = 15;

    /// A name known at compile time.
    ///
    /// # Panics
    /// At compile time, if the name is empty or too long.
    pub const fn literal(text: &'static str) -> Self {
        let from = text.as_bytes();
        assert!(!from.is_empty() && from.len() <= Self::MAX, "an interface name has 1 to 15 bytes");
        let mut bytes = [0; Self::MAX];
        let mut len: u8 = 0;
        while (len as usize) < from.len() {
            bytes[len as usize] = from[len as usize];
            len += 1;
        }
        Self { bytes, len }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Made from a str only, and cut nowhere: always UTF-8.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl FromStr for IfName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = |reason: &str| Invalid::new("interface name", text, reason);
        if text.is_empty() || text == "." || text == ".." {
            return Err(wrong("expected 1 to 15 characters"));
        }
        if text.len() > Self::MAX {
            return Err(wrong("it is longer than 15 bytes"));
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':')) {
            return Err(wrong("white space, '/' and ':' are not allowed"));
        }
        let mut bytes = [0; Self::MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).map_err(|_too_long| wrong("it is longer than 15 bytes"))?;
        Ok(Self { bytes, len })
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_bad_characters_are_refused_with_their_position() {
        let error = Name::parse("network name", "my net").unwrap_err();
        assert!(
            error.to_string().contains(r#"invalid network name "my net": character ' ' at position 3"#),
            "{error}"
        );
        for bad in ["", "-a", ".a", "ü", "a/b", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        for good in ["a", "0", "ov_net1", "a.b-c", &"a".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn interface_names_follow_the_kernels_rules() {
        for bad in ["", ".", "..", "a b", "a/b", "a:b", "0123456789abcdef"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
        assert_eq!("vxlan0".parse::<IfName>().unwrap(), IfName::literal("vxlan0"));
    }
}
