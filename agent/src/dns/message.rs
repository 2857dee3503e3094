//! A client's message and the answers to it. What comes in is hostile until it is a [`Request`].

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR, SRV},
    },
};

use super::{
    question::Question,
    zone::{Data, TTL, Verdict},
};

/// Length of a message's header (RFC 1035, 4.1.1).
pub(super) const HEADER: usize = 12;
/// Largest answer by UDP to whoever says nothing (RFC 1035, 4.2.1).
const PLAIN: u16 = 512;
/// Largest answer by UDP at all, and what we say that we take (DNS flag day 2020 has 1232 for the outside; `lo` has room).
const LARGEST: u16 = 4096;
/// Largest message by TCP.
const LARGEST_TCP: usize = 65_535;

/// A question of a client, with what its answer depends on.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// The transaction.
    pub(super) id: u16,
    /// It wants others to be asked, too.
    pub(super) recursion: bool,
    /// It checks signatures itself.
    pub(super) checking_disabled: bool,
    /// It speaks EDNS: the largest answer that it takes, and whether it wants signatures.
    pub(super) edns: Option<(u16, bool)>,
    /// What it asks for, as the zone sees it.
    pub(super) question: Question,
    /// The same as it came.
    pub(super) query: Query,
}

/// A message that is not answered with records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// It is not worth an answer.
    Drop,
    /// It is answered with this code.
    Code(u16, OpCode, ResponseCode),
}

/// By which transport an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Its size has limits.
    Udp,
    /// It has room.
    Tcp,
}

impl Request {
    /// The request in a packet.
    ///
    /// # Errors
    /// It is none, or not one that is answered here.
    pub(super) fn parse(packet: &[u8]) -> Result<Self, Rejection> {
        let header: &[u8; HEADER] = packet.first_chunk().ok_or(Rejection::Drop)?;
        let id = u16::from_be_bytes([header[0], header[1]]);
        if header[2] & 0x80 != 0 {
            // Whoever answered an answer would talk to itself for ever.
            return Err(Rejection::Drop);
        }
        let op_code = OpCode::from_u8(header[2] >> 3 & 0x0f);
        let refuse = |code| Err(Rejection::Code(id, op_code, code));
        if op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let Ok(message) = Message::from_vec(packet) else { return refuse(ResponseCode::FormErr) };
        let Ok([query]) = <[Query; 1]>::try_from(message.queries) else {
            return refuse(ResponseCode::FormErr);
        };
        if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return refuse(ResponseCode::BADVERS);
        }
        if query.query_class != DNSClass::IN
            || matches!(query.query_type, RecordType::AXFR | RecordType::IXFR | RecordType::OPT)
        {
            return refuse(ResponseCode::Refused);
        }
        Ok(Self {
            id,
            recursion: message.metadata.recursion_desired,
            checking_disabled: message.metadata.checking_disabled,
            edns: message.edns.map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)),
            question: Question::new(query.name.iter(), query.query_type),
            query,
        })
    }

    /// The answer that says no more than a code.
    pub(super) fn coded(&self, code: ResponseCode) -> Vec<u8> {
        encode(&self.respond(code), self, Transport::Tcp)
    }

    /// The answer of the zone; None: it is not for the zone to answer.
    pub(super) fn answered(&self, verdict: Verdict, transport: Transport) -> Option<Vec<u8>> {
        let (answers, along) = match verdict {
            Verdict::Foreign => return None,
            Verdict::NoName => return Some(self.coded(ResponseCode::NXDomain)),
            Verdict::Records { answers, along } => (answers, along),
        };
        let mut message = self.respond(ResponseCode::NoError);
        message.metadata.authoritative = true;
        for data in answers {
            let Some(data) = rdata(data) else { return Some(self.coded(ResponseCode::ServFail)) };
            message.add_answer(Record::from_rdata(self.query.name.clone(), TTL, data));
        }
        for (name, address) in along {
            // It is a courtesy: what cannot be said is left out.
            if let Ok(name) = Name::from_ascii(name + ".") {
                message.add_additional(Record::from_rdata(name, TTL, address_data(address)));
            }
        }
        Some(encode(&message, self, transport))
    }

    fn respond(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.recursion_desired = self.recursion;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        if let Some((_, signed)) = self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST).set_dnssec_ok(signed);
            message.set_edns(edns);
        }
        message
    }

    /// The largest answer that the client takes.
    pub(super) fn room(&self, transport: Transport) -> usize {
        match transport {
            Transport::Udp => {
                let offered = self.edns.map_or(PLAIN, |(size, _)| size.clamp(PLAIN, LARGEST));
                usize::from(offered)
            }
            Transport::Tcp => LARGEST_TCP,
        }
    }

    /// The answer that says that the whole one comes by TCP.
    pub(super) fn truncated(&self) -> Vec<u8> {
        let mut message = self.respond(ResponseCode::NoError);
        message.metadata.truncation = true;
        message.to_vec().unwrap_or_default()
    }
}

impl Rejection {
    /// The answer, if there is to be one.
    pub(super) fn answer(self) -> Option<Vec<u8>> {
        let Self::Code(id, op_code, code) = self else { return None };
        let mut message = Message::new(id, MessageType::Response, op_code);
        message.metadata.response_code = code;
        if code == ResponseCode::BADVERS {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST);
            message.set_edns(edns);
        }
        message.to_vec().ok()
    }
}

fn encode(message: &Message, request: &Request, transport: Transport) -> Vec<u8> {
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= request.room(transport) => bytes,
        // Too large, or more than a message can hold, which the limits of the zone do not let come about.
        Ok(_) | Err(_) => request.truncated(),
    }
}

fn rdata(data: Data) -> Option<RData> {
    Some(match data {
        Data::Address(address) => address_data(address),
        Data::Pointer(name) => RData::PTR(PTR(Name::from_ascii(name + ".").ok()?)),
        Data::Service(port, name) => RData::SRV(SRV::new(0, 0, port, Name::from_ascii(name + ".").ok()?)),
    })
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn addresses(count: u32) -> Verdict {
        let address = |number| Data::Address(std::net::Ipv4Addr::from(0x0a00_0000 | number).into());
        Verdict::Records { answers: (0..count).map(address).collect(), along: Vec::new() }
    }

    #[test]
    fn an_answer_repeats_the_question_as_it_was_spelled() {
        let request = Request::parse(&query("WeB.", RecordType::A).to_vec().unwrap()).unwrap();
        assert_eq!(request.question.text, "web");
        let answer = Message::from_vec(&request.answered(addresses(1), Transport::Udp).unwrap()).unwrap();
        assert_eq!(answer.queries[0].name.to_ascii(), "WeB.");
        assert_eq!((answer.id, answer.metadata.response_code), (7, ResponseCode::NoError));
        assert_eq!((answer.answers.len(), answer.answers[0].ttl), (1, TTL));
        assert!(answer.edns.is_none(), "who does not speak EDNS does not hear it");
    }

    #[test]
    fn an_answer_that_is_too_large_for_the_client_is_truncated() {
        let mut message = query("web.", RecordType::A);
        let plain = Request::parse(&message.to_vec().unwrap()).unwrap();
        let short = plain.answered(addresses(100), Transport::Udp).unwrap();
        assert!(short.len() <= 512 && Message::from_vec(&short).unwrap().metadata.truncation);
        let whole = Message::from_vec(&plain.answered(addresses(100), Transport::Tcp).unwrap()).unwrap();
        assert!(!whole.metadata.truncation && whole.answers.len() == 100);
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        message.set_edns(edns);
        let large = Request::parse(&message.to_vec().unwrap()).unwrap();
        let answer = Message::from_vec(&large.answered(addresses(100), Transport::Udp).unwrap()).unwrap();
        assert!(!answer.metadata.truncation && answer.answers.len() == 100 && answer.edns.is_some());
    }

    #[test]
    fn what_is_no_query_of_the_internet_is_refused_with_its_reason() {
        let code = |message: &Message| match Request::parse(&message.to_vec().unwrap()) {
            Err(Rejection::Code(7, _, code)) => code,
            other => panic!("{other:?}"),
        };
        let mut update = query("web.", RecordType::A);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(code(&update), ResponseCode::NotImp);
        let mut chaos = query("version.bind.", RecordType::TXT);
        chaos.queries[0].query_class = DNSClass::CH;
        assert_eq!(code(&chaos), ResponseCode::Refused);
        assert_eq!(code(&query("web.", RecordType::AXFR)), ResponseCode::Refused);
        let mut two = query("web.", RecordType::A);
        two.add_query(Query::query(Name::root(), RecordType::A));
        assert_eq!(code(&two), ResponseCode::FormErr);
        let mut future = query("web.", RecordType::A);
        future.set_edns(Edns::new().set_version(1).clone());
        assert_eq!(code(&future), ResponseCode::BADVERS);
        let mut answer = query("web.", RecordType::A);
        answer.metadata.message_type = MessageType::Response;
        assert_eq!(Request::parse(&answer.to_vec().unwrap()).unwrap_err(), Rejection::Drop);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn arbitrary_bytes_are_dropped_or_refused_and_never_more(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Err(refusal) = Request::parse(&bytes)
                && let Some(answer) = refusal.answer()
            {
                prop_assert_eq!(&answer[..2], &bytes[..2]);
                prop_assert!(answer.len() <= 23, "no larger than a header with EDNS");
            }
        }

        #[test]
        fn a_spoilt_query_never_harms(at in 0usize..40, byte: u8, cut in 0usize..60) {
            let mut bytes = query("some.name.of.ours.", RecordType::SRV).to_vec().unwrap();
            let index = at % bytes.len();
            bytes[index] = byte;
            bytes.truncate(cut.max(1));
            match Request::parse(&bytes) {
                Ok(request) => {
                    let answer = request.answered(addresses(300), Transport::Udp).unwrap();
                    prop_assert!(answer.len() <= request.room(Transport::Udp));
                    prop_assert!(Message::from_vec(&answer).is_ok());
                }
                Err(refusal) => drop(refusal.answer()),
            }
        }
    }
}
