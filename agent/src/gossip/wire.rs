//! Datagrams: `o` `v`, a version, a kind, and what the kind says. Numbers are big-endian.
//!
//! | kind | what follows |
//! |---|---|
//! | 0 | a message of the membership protocol, opaque here |
//! | 1 | ask: network (32 bytes), revision (8), asking node (16), token (8) |
//! | 2 | applied: network (32 bytes), revision (8), answering node (16), token (8) |

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::{NetworkId, NodeId};

/// Longest datagram, in bytes: fits every underlay without fragments, tunnels among them.
pub(super) const MAX_PACKET: usize = 1400;
/// Bytes before what a kind says.
const HEADER: usize = 4;
/// Longest message of the membership protocol, in bytes.
pub(super) const MAX_SWIM: usize = MAX_PACKET - HEADER;

const MAGIC: [u8; 2] = *b"ov";
const VERSION: u8 = 1;
const SWIM: u8 = 0;
const ASK: u8 = 1;
const APPLIED: u8 = 2;
/// Bytes of an ask or applied without the header.
const NOTE: usize = 32 + 8 + 16 + 8;

/// What a datagram says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// A message of the membership protocol.
    Swim(&'a [u8]),
    /// "Tell me when you have applied this revision of this network."
    Ask(Note),
    /// "I have applied this revision."
    Applied(Note),
}

/// The common part of question and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The network.
    pub(super) network: NetworkId,
    /// A revision of the store, not negative.
    pub(super) revision: i64,
    /// Who sends this.
    pub(super) node: NodeId,
    /// Chosen by the asker and sent back, so that nobody answers who was not asked.
    pub(super) token: u64,
}

impl<'a> Packet<'a> {
    /// The datagram's meaning; none if it does not parse.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        if datagram.len() > MAX_PACKET {
            return None;
        }
        let (header, rest) = datagram.split_first_chunk::<HEADER>()?;
        let [m0, m1, VERSION, kind] = *header else { return None };
        if [m0, m1] != MAGIC {
            return None;
        }
        match kind {
            SWIM => Some(Self::Swim(rest)),
            ASK => Note::parse(rest).map(Self::Ask),
            APPLIED => Note::parse(rest).map(Self::Applied),
            _ => None,
        }
    }

    /// The datagram.
    pub(super) fn to_bytes(self) -> Bytes {
        let (kind, length) = match self {
            Self::Swim(message) => (SWIM, message.len()),
            Self::Ask(_) => (ASK, NOTE),
            Self::Applied(_) => (APPLIED, NOTE),
        };
        let mut bytes = BytesMut::with_capacity(HEADER + length);
        bytes.put_slice(&MAGIC);
        bytes.put_u8(VERSION);
        bytes.put_u8(kind);
        match self {
            Self::Swim(message) => bytes.put_slice(message),
            Self::Ask(note) | Self::Applied(note) => note.put(&mut bytes),
        }
        bytes.freeze()
    }
}

impl Note {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (network, rest) = bytes.split_first_chunk::<32>()?;
        let (revision, rest) = rest.split_first_chunk::<8>()?;
        let (node, rest) = rest.split_first_chunk::<16>()?;
        let token: [u8; 8] = rest.try_into().ok()?;
        Some(Self {
            network: NetworkId::from_bytes(*network),
            revision: u64::from_be_bytes(*revision).try_into().ok()?,
            node: NodeId(uuid::Uuid::from_bytes(*node)),
            token: u64::from_be_bytes(token),
        })
    }

    fn put(&self, bytes: &mut BytesMut) {
        bytes.put_slice(self.network.as_bytes());
        bytes.put_i64(self.revision);
        bytes.put_slice(self.node.0.as_bytes());
        bytes.put_u64(self.token);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn note() -> impl Strategy<Value = Note> {
        (any::<[u8; 32]>(), 0..i64::MAX, any::<u128>(), any::<u64>()).prop_map(
            |(network, revision, node, token)| Note {
                network: NetworkId::from_bytes(network),
                revision,
                node: NodeId(uuid::Uuid::from_u128(node)),
                token,
            },
        )
    }

    proptest! {
        #[test]
        fn a_packet_reads_back_what_was_sent(note in note(), message in vec(any::<u8>(), 0..MAX_SWIM)) {
            for packet in [Packet::Ask(note), Packet::Applied(note), Packet::Swim(&message)] {
                let bytes = packet.to_bytes();
                prop_assert!(bytes.len() <= MAX_PACKET);
                prop_assert_eq!(Packet::parse(&bytes), Some(packet));
            }
        }

        #[test]
        fn what_is_cut_or_lengthened_does_not_parse(note in note(), cut in 0..HEADER + NOTE) {
            let bytes = Packet::Ask(note).to_bytes();
            prop_assert_eq!(Packet::parse(&bytes[..cut]), None);
            let longer = [&bytes[..], &[0]].concat();
            prop_assert_eq!(Packet::parse(&longer), None);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..2000)) {
            prop_assert!(Packet::parse(&bytes).is_none() || bytes.starts_with(b"ov\x01"));
        }
    }

    #[test]
    fn another_version_another_magic_and_a_negative_revision_do_not_parse() {
        assert_eq!(Packet::parse(b"ov\x02\x00"), None);
        assert_eq!(Packet::parse(b"xv\x01\x00"), None);
        assert_eq!(Packet::parse(b"ov\x01\x03"), None);
        let mut bytes = b"ov\x01\x01".to_vec();
        bytes.extend([0xff; NOTE]);
        assert_eq!(Packet::parse(&bytes), None);
    }
}
