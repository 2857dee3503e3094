//! An upstream's answer as bytes: checked, stripped of what concerns only the two of us, and aged when it is
//! sent again.
//!
//! Only its frame is read; the records themselves pass as they are, of whatever type.

use hickory_proto::op::Message;

use super::message::{HEADER, Request, Transport};

/// Type of the pseudo-record of EDNS (RFC 6891).
const OPT: u16 = 41;
/// Type of the record that says how long a "no" may be kept (RFC 2308).
const SOA: u16 = 6;
/// In the third byte of a header: the message was cut off.
const TC: u8 = 0x02;

/// An answer that can be told to several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The message without EDNS.
    bytes: Vec<u8>,
    /// Where the times to live are.
    ttls: Vec<usize>,
    /// Length of header and question.
    head: usize,
    /// How long it may be kept, in seconds; 0: not at all.
    pub(super) ttl: u32,
}

/// What an upstream's message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// An answer: these names, or that there are none.
    Answer(Told),
    /// There is more than UDP could carry.
    Truncated,
    /// It cannot or will not say; the code of the answer.
    Failure(u8),
}

/// The record at `at`: its type, where its time to live is, and where its data are.
struct RecordSpan {
    kind: u16,
    ttl: usize,
    data: std::ops::Range<usize>,
}

/// What a message of an upstream says to `query`, of which it must be the answer. None: it is not.
pub(super) fn hear(message: &[u8], query: &[u8]) -> Option<Heard> {
    let head = question_end(query)?;
    let same = message.get(..2)? == query.get(..2)?
        && message.get(2)? & 0xf8 == 0x80
        && message.get(4..6)? == [0, 1]
        && message.get(HEADER..head - 4)?.eq_ignore_ascii_case(query.get(HEADER..head - 4)?)
        && message.get(head - 4..head)? == query.get(head - 4..head)?;
    if !same {
        return None;
    }
    let code = message.get(3)? & 0x0f;
    if !matches!(code, 0 | 3) {
        return Some(Heard::Failure(code));
    }
    if message.get(2)? & TC != 0 {
        return Some(Heard::Truncated);
    }
    Told::read(message, head).map(Heard::Answer)
}

/// The length of header and question of a message with one question.
fn question_end(message: &[u8]) -> Option<usize> {
    name_end(message, HEADER)?.checked_add(4).filter(|end| *end <= message.len())
}

/// Where the name at `at` ends; where a pointer leads to is not looked at.
fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = *message.get(at)?;
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + usize::from(length),
            192..=255 => return Some(at + 2),
            64..=191 => return None,
        }
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn long_number(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

fn record(message: &[u8], at: usize) -> Option<RecordSpan> {
    let fixed = name_end(message, at)?;
    let length = usize::from(number(message, fixed + 8)?);
    let data = fixed + 10..fixed + 10 + length;
    message.get(data.clone())?;
    Some(RecordSpan { kind: number(message, fixed)?, ttl: fixed + 4, data })
}

impl Told {
    fn read(message: &[u8], head: usize) -> Option<Self> {
        let mut bytes = message.to_vec();
        let [answers, authorities, additionals] = [6, 8, 10].map(|at| number(message, at));
        let (answers, authorities, additionals) = (answers?, authorities?, additionals?);
        let (mut at, mut ttls, mut lives, mut negative) = (head, Vec::new(), Vec::new(), None);
        let all = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
        for index in 0..all {
            let seen = record(message, at)?;
            if seen.kind == OPT {
                // High bits of the code, or a record of EDNS that is not the last: rare enough to be written anew.
                if *message.get(seen.ttl)? != 0 {
                    return None;
                }
                if index + 1 != all {
                    let mut again = Message::from_vec(message).ok()?;
                    again.edns = None;
                    return Self::read(&again.to_vec().ok()?, head);
                }
                bytes.truncate(at);
                bytes.get_mut(10..12)?.copy_from_slice(&additionals.checked_sub(1)?.to_be_bytes());
                return Some(Self::kept(bytes, head, ttls, keep(answers, &lives, negative)));
            }
            let life = long_number(message, seen.ttl)?;
            if seen.kind == SOA && index >= u32::from(answers) {
                let least = long_number(message, seen.data.end.checked_sub(4)?)?;
                negative = Some(life.min(least));
            }
            ttls.push(seen.ttl);
            lives.push(life);
            at = seen.data.end;
        }
        bytes.truncate(at);
        Some(Self::kept(bytes, head, ttls, keep(answers, &lives, negative)))
    }

    fn kept(bytes: Vec<u8>, head: usize, ttls: Vec<usize>, ttl: u32) -> Self {
        Self { bytes, ttls, head, ttl }
    }

    /// Its size in memory, roughly, in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.ttls.len() * size_of::<usize>()
    }

    /// Whether it says that there is no such name.
    pub(super) fn is_no_name(&self) -> bool {
        self.bytes.get(3).is_some_and(|byte| byte & 0x0f == 3)
    }

    /// The answer to `request`, which asks the same, `age` seconds after it was heard.
    pub(super) fn retell(&self, request: &Request, age: u32, transport: Transport) -> Vec<u8> {
        /// Root name, type OPT, 4096 bytes, version 0, no options; the flags come in between.
        const EDNS: [u8; 11] = [0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0];
        let along = if request.edns.is_some() { EDNS.len() } else { 0 };
        if self.bytes.len() + along > request.room(transport) {
            return request.truncated();
        }
        let mut bytes = Vec::with_capacity(self.bytes.len() + along);
        bytes.extend_from_slice(&self.bytes);
        bytes[..2].copy_from_slice(&request.id.to_be_bytes());
        // It was not asked for by us with the client's flags, and it is not from an authority.
        bytes[2] = bytes[2] & !0x05 | u8::from(request.recursion);
        bytes[3] = bytes[3] & !0x10 | 0x80 | if request.checking_disabled { 0x10 } else { 0 };
        spell(&mut bytes[HEADER..self.head], request);
        for at in &self.ttls {
            if let Some(field) = bytes.get_mut(*at..*at + 4) {
                let life = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
                field.copy_from_slice(&life.saturating_sub(age).to_be_bytes());
            }
        }
        if let Some((_, signed)) = request.edns {
            let more = number(&bytes, 10).unwrap_or_default().saturating_add(1);
            bytes[10..12].copy_from_slice(&more.to_be_bytes());
            bytes.extend_from_slice(&EDNS);
            let flags = bytes.len() - 4;
            bytes[flags] = if signed { 0x80 } else { 0 };
        }
        bytes
    }
}

/// The question's name in the client's spelling.
fn spell(question: &mut [u8], request: &Request) {
    let mut at = 0;
    for label in request.query.name.iter() {
        at += 1;
        if let Some(place) = question.get_mut(at..at + label.len()) {
            place.copy_from_slice(label);
        }
        at += label.len();
    }
}

/// How long an answer may be kept: as its shortest-lived record, or as the authority says of a "no".
fn keep(answers: u16, lives: &[u32], negative: Option<u32>) -> u32 {
    match (answers, negative) {
        (0, None) => 0,
        (0, Some(negative)) => negative,
        (_, Some(_) | None) => lives.iter().copied().min().unwrap_or(0),
    }
}

#[cfg(test)]
pub(super) mod tests;
