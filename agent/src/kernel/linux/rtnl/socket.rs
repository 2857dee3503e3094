//! A blocking rtnetlink socket: rows in batches with one ack, and dumps that are complete or an error.
//!
//! It stays in the namespace that it was opened in, whichever thread uses it, and keeps that namespace alive: nothing
//! here outlives one call of the room.

#[cfg(test)]
mod tests;

use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST,
    NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::{
    errno::Errno,
    sys::{
        socket::{setsockopt, sockopt::ReceiveTimeout},
        time::{TimeVal, TimeValLike},
    },
};

use super::{
    attributes::{Attributes, text, u32_at},
    batch::{Batch, Request},
};
use crate::kernel::linux::refusal::Refusal;

/// The kernel's dumps come in datagrams of at most 32 KiB; a single link with many virtual functions may need more.
const INBOX: usize = 256 * 1024;
/// The kernel answers at once; longer means that something is badly wrong.
const PATIENCE: i64 = 30;
/// NLMSGERR_ATTR_MSG (linux/netlink.h).
const ATTR_MSG: u16 = 1;
/// The ends of a batch (linux/netfilter/nfnetlink.h).
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// Length of a netlink header.
const HEADER: usize = 16;

/// The socket.
pub(in crate::kernel::linux) struct Rtnl {
    socket: Socket,
    sequence: u32,
    inbox: Vec<u8>,
}

/// An answer of the kernel: the parts of its header that matter, and its body.
struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Rtnl {
    /// A socket in the namespace of the calling thread.
    pub(in crate::kernel::linux) fn open() -> Result<Self, Refusal> {
        let opened = Self::of(NETLINK_ROUTE)?;
        // Without it the kernel takes no filter in dumps and says nothing about it.
        opened.socket.set_netlink_get_strict_chk(true)?;
        Ok(opened)
    }

    /// One that nfnetlink answers on (netfilter's part of netlink), for [`Self::ask`].
    pub(in crate::kernel::linux) fn open_netfilter() -> Result<Self, Refusal> {
        Self::of(NETLINK_NETFILTER)
    }

    fn of(protocol: isize) -> Result<Self, Refusal> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE))?;
        Ok(Self { socket, sequence: 0, inbox: Vec::with_capacity(INBOX) })
    }

    /// Send all of them, in as few datagrams as may be, and wait for the kernel to have done them. The answer has one
    /// place for each request: None is success.
    pub(in crate::kernel::linux) fn submit(&mut self, requests: Vec<Request>) -> Vec<Option<Refusal>> {
        let mut outcomes = vec![None; requests.len()];
        let mut rest = requests.into_iter().enumerate().peekable();
        while rest.peek().is_some() {
            let mut batch = Batch::default();
            while let Some((at, request)) = rest.next_if(|_| !batch.is_full()) {
                self.sequence = self.sequence.wrapping_add(1);
                batch.push(at, self.sequence, request);
            }
            if let Err(refusal) = self.exchange(&mut batch, &mut outcomes) {
                self.one_by_one(batch, refusal, &mut outcomes);
            }
        }
        outcomes
    }

    /// Send one request and wait until it is done.
    pub(in crate::kernel::linux) fn apply(&mut self, request: Request) -> Result<(), Refusal> {
        self.submit(vec![request]).into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// Send requests that belong together; the first refusal is the answer.
    pub(in crate::kernel::linux) fn apply_all(&mut self, requests: Vec<Request>) -> Result<(), Refusal> {
        self.submit(requests).into_iter().flatten().next().map_or(Ok(()), Err)
    }

    /// Ask for one object: the body of the answer.
    pub(in crate::kernel::linux) fn get(&mut self, message: RouteNetlinkMessage) -> Result<Vec<u8>, Refusal> {
        let sequence = self.send_single(message, 0)?;
        let mut found = None;
        self.receive(sequence, &mut |answer| match answer.kind {
            NLMSG_ERROR => Err(refusal_in(answer)),
            _object => {
                found = Some(answer.body.to_vec());
                Ok(true)
            }
        })?;
        found.ok_or_else(|| Refusal::new(Errno::EIO, "the kernel gave no answer"))
    }

    /// Ask for all objects of a kind; `each` gets their bodies.
    ///
    /// A dump that the kernel marks as inconsistent, or ends with an error, is an error (EINTR: try again): a part is
    /// never taken for the whole.
    pub(in crate::kernel::linux) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        let sequence = self.send_single(message, NLM_F_DUMP)?;
        self.objects(sequence, each)
    }

    /// Ask with a message of this type and body, of any family of netlink: for one object, or with NLM_F_DUMP for all.
    /// As complete as [`Self::dump`].
    pub(in crate::kernel::linux) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Refusal> {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        self.put(&mut bytes, kind, flags, body)?;
        self.send(&bytes)?;
        self.objects(self.sequence, each)
    }

    /// Have one thing done by a message of this type, of any family of netlink, and wait until it is.
    pub(in crate::kernel::linux) fn command(&mut self, kind: u16, body: &[u8]) -> Result<(), Refusal> {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        self.put(&mut bytes, kind, NLM_F_ACK, body)?;
        self.send(&bytes)?;
        self.receive(self.sequence, &mut |answer| match answer.kind {
            NLMSG_ERROR => refused(answer).map_or(Ok(true), Err),
            _other => Ok(false),
        })
    }

    /// Have a subsystem of nfnetlink do all of these (type, flags, body), or nothing of it, and wait until it is done. For one
    /// call of a socket that had no answer to wait for.
    pub(in crate::kernel::linux) fn transact(
        &mut self,
        subsystem: u16,
        messages: &[(u16, u16, Vec<u8>)],
    ) -> Result<(), Refusal> {
        // A batch's first and last message have the subsystem in network order.
        let [high, low] = (subsystem).to_be_bytes();
        let bound = [0, 0, high, low];
        let mut bytes = Vec::new();
        self.put(&mut bytes, BATCH_BEGIN, 0, &bound)?;
        for (at, (kind, flags, body)) in messages.iter().enumerate() {
            let ack = if at + 1 == messages.len() { NLM_F_ACK } else { 0 };
            self.put(&mut bytes, *kind, flags | ack, body)?;
        }
        let last = self.sequence;
        self.put(&mut bytes, BATCH_END, 0, &bound)?;
        self.send(&bytes)?;
        // Refusals come first: of a message, or, with the first message's number, of the whole.
        loop {
            self.read()?;
            for answer in answers(&self.inbox).filter(|answer| answer.kind == NLMSG_ERROR) {
                match refused(&answer) {
                    Some(refusal) => return Err(refusal),
                    None if answer.sequence == last => return Ok(()),
                    None => {}
                }
            }
        }
    }

    /// Add a message of this type and flags, with the next number.
    fn put(&mut self, bytes: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) -> Result<(), Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        header.length = u32::try_from(HEADER + body.len()).map_err(|_too_long| Errno::EMSGSIZE)?;
        let start = bytes.len();
        bytes.resize(start + HEADER, 0);
        header.emit(&mut bytes[start..]);
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        Ok(())
    }

    /// Hand out the objects of an answer until its end.
    fn objects(&mut self, sequence: u32, each: &mut dyn FnMut(&[u8])) -> Result<(), Refusal> {
        let mut torn = false;
        self.receive(sequence, &mut |answer| {
            torn |= answer.flags & NLM_F_DUMP_INTR != 0;
            match answer.kind {
                NLMSG_ERROR => return Err(refusal_in(answer)),
                NLMSG_DONE => {
                    let code =
                        answer.body.get(..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
                    return match code {
                        Some(code) if code < 0 => Err(refusal_with(code, answer.body, 4)),
                        _zero => Ok(true),
                    };
                }
                _object => each(answer.body),
            }
            Ok(answer.flags & NLM_F_MULTIPART == 0)
        })?;
        if torn { Err(Refusal::new(Errno::EINTR, "objects changed during the dump")) } else { Ok(()) }
    }

    fn send_single(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<u32, Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut batch = Batch::default();
        batch.push(0, self.sequence, Request { message, flags });
        self.send(&batch.bytes)?;
        Ok(self.sequence)
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let sent = self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0)?;
        if sent == bytes.len() { Ok(()) } else { Err(Refusal::new(Errno::EIO, "the datagram was cut short")) }
    }

    /// Send a batch with an ack on its last message; requests that fail answer although they asked for none.
    fn exchange(&mut self, batch: &mut Batch, outcomes: &mut [Option<Refusal>]) -> Result<(), Refusal> {
        batch.ask_for_ack();
        self.send(&batch.bytes)?;
        let Some((first, last)) = batch.sequences else { return Ok(()) };
        let mut done = false;
        while !done {
            self.read()?;
            for answer in answers(&self.inbox) {
                let place = answer.sequence.wrapping_sub(first);
                let place = usize::try_from(place).ok().and_then(|place| batch.places.get(place));
                if let (NLMSG_ERROR, Some(place)) = (answer.kind, place) {
                    outcomes[*place] = refused(&answer);
                    done |= answer.sequence == last;
                }
            }
        }
        Ok(())
    }

    /// After a lost answer: every request again with an ack of its own. They all bear repetition.
    fn one_by_one(&mut self, batch: Batch, cause: Refusal, outcomes: &mut [Option<Refusal>]) {
        if cause.errno != Errno::ENOBUFS || batch.places.len() < 2 {
            for place in batch.places {
                outcomes[place] = Some(cause.clone());
            }
            return;
        }
        // While old answers wait to be read, the kernel drops new ones.
        self.drain();
        for mut single in batch.split(&mut self.sequence) {
            if let Err(refusal) = self.exchange(&mut single, outcomes) {
                for place in single.places {
                    outcomes[place] = Some(refusal.clone());
                }
            }
        }
    }

    /// Throw away what waits to be read: no more than the socket's buffer holds, since nothing new is asked for.
    fn drain(&mut self) {
        loop {
            self.inbox.clear();
            match self.socket.recv(&mut self.inbox, nix::libc::MSG_DONTWAIT) {
                Ok(_length) => {}
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
                Err(_nothing_waits) => return,
            }
        }
    }

    /// Hand out the answers to the request with this number until `each` says that it was the last.
    fn receive(
        &mut self,
        sequence: u32,
        each: &mut dyn FnMut(&Answer<'_>) -> Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        loop {
            self.read()?;
            for answer in answers(&self.inbox).filter(|answer| answer.sequence == sequence) {
                if each(&answer)? {
                    return Ok(());
                }
            }
        }
    }

    /// The next datagram, into the inbox.
    fn read(&mut self) -> Result<(), Refusal> {
        self.inbox.clear();
        let length = self.socket.recv(&mut self.inbox, nix::libc::MSG_TRUNC)?;
        if length > self.inbox.len() {
            return Err(Refusal::new(Errno::EMSGSIZE, format!("the kernel's answer has {length} bytes")));
        }
        Ok(())
    }
}

fn answers(inbox: &[u8]) -> impl Iterator<Item = Answer<'_>> {
    let mut rest = inbox;
    std::iter::from_fn(move || {
        let header = NetlinkBuffer::new_checked(rest).ok()?;
        let length = usize::try_from(header.length()).ok()?;
        let body = rest.get(HEADER..length)?;
        let answer = Answer {
            kind: header.message_type(),
            flags: header.flags(),
            sequence: header.sequence_number(),
            body,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    })
}

/// The refusal in an NLMSG_ERROR, or `None` if it is an ack.
fn refused(answer: &Answer<'_>) -> Option<Refusal> {
    let code = answer.body.get(..4).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
    if code == Some(0) { None } else { Some(refusal_in(answer)) }
}

fn refusal_in(answer: &Answer<'_>) -> Refusal {
    let code = answer.body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    // Behind the code comes our message's header, or all of it if the kernel did not cap it, then the attributes.
    let echoed = match u32_at(answer.body, 4) {
        Some(length) if answer.flags & NLM_F_CAPPED == 0 => usize::try_from(length).unwrap_or(HEADER),
        _capped => HEADER,
    };
    refusal_with(code, answer.body, 4 + echoed.next_multiple_of(4))
}

fn refusal_with(code: i32, body: &[u8], attributes: usize) -> Refusal {
    let sentence = Attributes::after(body, attributes).find(ATTR_MSG).and_then(text);
    Refusal { errno: Errno::from_raw(code.wrapping_neg()), text: sentence.map(str::to_owned) }
}
