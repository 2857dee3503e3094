//! A message of the membership protocol, opened before the protocol sees it: who speaks, to whom, of whom.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::{Codec as _, Header, Member, Message};

use super::{codec::Codec, identity::Identity, roster::Roster, wire::Packet};

/// A message that reads.
pub(super) struct Letter {
    pub(super) header: Header<Identity>,
    /// What it says of the members; none: it has no room for that.
    pub(super) news: Option<Vec<Member<Identity>>>,
}

impl Letter {
    /// None for one that does not read, or has something behind its end.
    pub(super) fn open(codec: &mut Codec, mut message: &[u8]) -> Option<Self> {
        let header = codec.decode_header(&mut message).ok()?;
        if message.is_empty() {
            return Some(Self { header, news: None });
        }
        let count = message.try_get_u16().ok()?;
        let news = (0..count).map(|_| codec.decode_member(&mut message).ok()).collect::<Option<Vec<_>>>()?;
        message.is_empty().then_some(Self { header, news: Some(news) })
    }

    /// The message; none if it cannot be written.
    pub(super) fn to_bytes(&self, codec: &mut Codec) -> Option<Vec<u8>> {
        let mut message = Vec::new();
        codec.encode_header(&self.header, &mut message).ok()?;
        if let Some(news) = &self.news {
            message.put_u16(u16::try_from(news.len()).ok()?);
            for member in news {
                codec.encode_member(member, &mut message).ok()?;
            }
        }
        Some(message)
    }

    /// Leaves out what it says of those that do not take part, except of `own` as it is now; whether that was something.
    pub(super) fn sift(&mut self, own: &Identity, roster: &Roster) -> bool {
        let Some(news) = &mut self.news else { return false };
        let before = news.len();
        news.retain(|member| {
            let id = member.id();
            if id.address == own.address { id == own } else { roster.knows(id.node, id.address) }
        });
        news.len() != before
    }

    /// Identities that it gives our address, besides `own`: what somebody takes us for.
    pub(super) fn namesakes<'a>(&'a self, own: &'a Identity) -> impl Iterator<Item = &'a Identity> {
        let news = self.news.iter().flatten().map(Member::id);
        let named = news.chain([&self.header.dst]).filter(|id| id.profile.is_some());
        named.filter(move |id| id.address == own.address && *id != own)
    }

    /// Whom we would have to send something on its behalf.
    pub(super) const fn third(&self) -> Option<&Identity> {
        match &self.header.message {
            Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => Some(target),
            Message::Ping(_)
            | Message::Ack(_)
            | Message::IndirectPing { .. }
            | Message::ForwardedAck { .. }
            | Message::Announce
            | Message::Feed
            | Message::Gossip
            | Message::Broadcast
            | Message::TurnUndead => None,
        }
    }
}

/// A datagram that answers an announcement, without the members that it names; any other as it is.
pub(super) fn bare(codec: &mut Codec, datagram: &Bytes) -> Bytes {
    let Some(Packet::Swim(mut rest)) = Packet::parse(datagram) else { return datagram.clone() };
    match codec.decode_header(&mut rest) {
        Ok(Header { message: Message::Feed, .. }) => {}
        Ok(_) | Err(_) => return datagram.clone(),
    }
    let mut bare = BytesMut::from(datagram.as_ref());
    bare.truncate(datagram.len() - rest.len());
    bare.put_u16(0);
    bare.freeze()
}
