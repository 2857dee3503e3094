//! Netlink messages: fixed headers and attributes (netlink(7), rtnetlink(7)).
//!
//! A look reads the few attributes that it knows and passes over the rest. rtnetlink's own connection would leave out,
//! with no error, each object of which it cannot decode an attribute, and hides that a dump was torn (NLM_F_DUMP_INTR).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The attributes in a message behind its fixed header, or nested in one. Ends at what is cut short.
#[derive(Clone, Copy)]
pub(in crate::kernel::linux) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those behind a fixed header of `header` bytes.
    pub(in crate::kernel::linux) fn after(body: &'a [u8], header: usize) -> Self {
        Self(body.get(header..).unwrap_or_default())
    }

    /// Those nested in an attribute's value.
    pub(in crate::kernel::linux) fn nested(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// The value of the first one of this kind.
    pub(in crate::kernel::linux) fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(observed, _)| *observed == kind).map(|(_, value)| value)
    }
}

impl<'a> IntoIterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        Iter(self.0)
    }
}

/// Iterator over kind and value.
pub(in crate::kernel::linux) struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        // The two highest bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The byte at this offset.
pub(in crate::kernel::linux) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// The 16 bits at this offset, in the machine's order.
pub(in crate::kernel::linux) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

/// The 32 bits at this offset, in the machine's order.
pub(in crate::kernel::linux) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A text that ends with a zero byte.
pub(in crate::kernel::linux) fn text(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).ok()
}

/// An address of either family, told by its length.
pub(in crate::kernel::linux) fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|octets| Ipv6Addr::from(octets).into())
}

/// Add an attribute to a message, or to the value of another one. Values are short: up to 65,531 bytes.
pub(in crate::kernel::linux) fn put(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    into.extend(length.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(value);
    into.resize(into.len().next_multiple_of(4), 0);
}

/// The same for a number in network order, as netfilter has them.
pub(in crate::kernel::linux) fn put_number(into: &mut Vec<u8>, kind: u16, number: u32) {
    put(into, kind, &number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_put_is_read_again() {
        let mut bytes = Vec::new();
        put(&mut bytes, 1, &[7, 8]);
        put_number(&mut bytes, 2, 9);
        put(&mut bytes, 3, b"lo\0");
        let read: Vec<_> = Attributes::nested(&bytes).into_iter().collect();
        assert_eq!(read, [(1, &[7, 8][..]), (2, &[0, 0, 0, 9]), (3, b"lo\0")]);
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn attributes_are_read_past_their_padding() {
        let bytes = [6, 0, 1, 0, 7, 8, 0, 0, 5, 0, 2, 0x80, 9, 0, 0, 0];
        let read: Vec<_> = Attributes::nested(&bytes).into_iter().collect();
        assert_eq!(read, [(1, &[7, 8][..]), (2, &[9][..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_on(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Attributes::nested(&bytes).into_iter().count() <= bytes.len() / 4 + 1);
        }
    }
}
