//! Messages that go to the kernel in one datagram, numbered one after the other.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;

/// Largest datagram that we send, in bytes. Larger ones are not faster, and the answers to a batch in which everything
/// fails must fit the receive buffer (net.core.rmem_default, some 200 KiB).
const BATCH: usize = 16 * 1024;
/// Most messages in a datagram, for the same reason.
const BATCH_MESSAGES: usize = 128;
/// A message to the kernel with its flags besides NLM_F_REQUEST and NLM_F_ACK.
pub(in crate::kernel::linux) struct Request {
    pub(in crate::kernel::linux) message: RouteNetlinkMessage,
    pub(in crate::kernel::linux) flags: u16,
}

/// Messages of one datagram.
#[derive(Default)]
pub(in crate::kernel::linux) struct Batch {
    pub(in crate::kernel::linux) bytes: Vec<u8>,
    /// Where each message ends in `bytes`.
    ends: Vec<usize>,
    /// The place of each message's outcome.
    pub(in crate::kernel::linux) places: Vec<usize>,
    /// The first and the last number.
    pub(in crate::kernel::linux) sequences: Option<(u32, u32)>,
}

impl Batch {
    /// Whether the next message needs a new datagram.
    pub(in crate::kernel::linux) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH || self.ends.len() >= BATCH_MESSAGES
    }

    /// Add a message; `place`: where its outcome goes.
    pub(in crate::kernel::linux) fn push(&mut self, place: usize, sequence: u32, request: Request) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | request.flags;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.message));
        message.finalize();
        let start = self.bytes.len();
        self.bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut self.bytes[start..]);
        self.ends.push(self.bytes.len());
        self.places.push(place);
        self.sequences = Some((self.sequences.map_or(sequence, |(first, _)| first), sequence));
    }

    /// Have the kernel answer the last message even when all is well.
    pub(in crate::kernel::linux) fn ask_for_ack(&mut self) {
        let last = self.ends.iter().rev().nth(1).copied().unwrap_or(0);
        if let Some(bytes) = self.bytes.get_mut(last..) {
            let mut header = NetlinkBuffer::new(bytes);
            header.set_flags(header.flags() | NLM_F_ACK);
        }
    }

    /// The same messages in datagrams of their own, with new numbers.
    pub(in crate::kernel::linux) fn split(self, sequence: &mut u32) -> Vec<Self> {
        let mut start = 0;
        let mut singles = Vec::with_capacity(self.ends.len());
        for (end, place) in self.ends.into_iter().zip(self.places) {
            *sequence = sequence.wrapping_add(1);
            let mut bytes = self.bytes[start..end].to_vec();
            NetlinkBuffer::new(&mut bytes).set_sequence_number(*sequence);
            singles.push(Self {
                ends: vec![bytes.len()],
                bytes,
                places: vec![place],
                sequences: Some((*sequence, *sequence)),
            });
            start = end;
        }
        singles
    }
}
