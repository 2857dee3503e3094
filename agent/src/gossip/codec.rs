//! Messages of the membership protocol as bytes, in postcard's format, and who may be in them.

use std::net::SocketAddr;

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, PostcardCodec};

use super::identity::Identity;

/// The codec of one node.
#[derive(Clone, Copy)]
pub(super) struct Codec {
    /// Our own address, as we announce it.
    pub(super) own: SocketAddr,
}

impl foca::Codec<Identity> for Codec {
    type Error = postcard::Error;

    fn encode_header(&mut self, header: &Header<Identity>, buf: impl BufMut) -> Result<(), Self::Error> {
        PostcardCodec.encode_header(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Identity>, Self::Error> {
        let mut header: Header<Identity> = PostcardCodec.decode_header(buf)?;
        if header.src.profile.is_none() {
            return Err(postcard::Error::SerdeDeCustom);
        }
        // One who announces himself to an address that he was given need not know which of our addresses we advertise.
        if header.message == Message::Announce && header.dst.profile.is_none() {
            header.dst.address = self.own;
        }
        Ok(header)
    }

    fn encode_member(&mut self, member: &Member<Identity>, buf: impl BufMut) -> Result<(), Self::Error> {
        PostcardCodec.encode_member(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Identity>, Self::Error> {
        let member: Member<Identity> = PostcardCodec.decode_member(buf)?;
        if member.id().profile.is_none() {
            return Err(postcard::Error::SerdeDeCustom);
        }
        Ok(member)
    }
}
