use hickory_proto::{
    op::{Edns, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, SOA as Soa},
    },
};
use proptest::prelude::*;

use super::*;

fn query(name: &str) -> Message {
    let mut message = Message::new(99, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

/// A query for `name` and an answer to it with so many records.
pub(in crate::dns) fn answer_to(name: &str, ttl: u32, records: u32) -> (Vec<u8>, Vec<u8>) {
    let query = query(name);
    let mut answer = query.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.authoritative = true;
    for number in 0..records {
        let data = RData::A(A(std::net::Ipv4Addr::from(number)));
        answer.add_answer(Record::from_rdata(query.queries[0].name.clone(), ttl + number, data));
    }
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    answer.set_edns(edns);
    (query.to_vec().unwrap(), answer.to_vec().unwrap())
}

fn told(answer: &[u8], query: &[u8]) -> Told {
    match hear(answer, query) {
        Some(Heard::Answer(told)) => told,
        other => panic!("{other:?}"),
    }
}

fn request(message: &Message) -> Request {
    Request::parse(&message.to_vec().unwrap()).unwrap()
}

#[test]
fn an_answer_is_retold_to_each_in_its_own_words_and_older() {
    let (asked, answer) = answer_to("name.example.", 100, 3);
    let told = told(&answer, &asked);
    assert_eq!(told.ttl, 100, "the least of its records'");
    let mut client = query("NAME.example.");
    client.metadata.id = 7;
    let plain = Message::from_vec(&told.retell(&request(&client), 40, Transport::Udp)).unwrap();
    assert_eq!((plain.id, plain.queries[0].name.to_ascii()), (7, "NAME.example.".into()));
    assert_eq!(plain.answers.iter().map(|it| it.ttl).collect::<Vec<_>>(), [60, 61, 62]);
    assert!(plain.edns.is_none() && !plain.metadata.authoritative && plain.metadata.recursion_available);
    let mut edns = Edns::new();
    edns.set_max_payload(1400).set_dnssec_ok(true);
    client.set_edns(edns);
    let rich = Message::from_vec(&told.retell(&request(&client), 1000, Transport::Udp)).unwrap();
    assert!(rich.edns.is_some_and(|edns| edns.flags().dnssec_ok && edns.version() == 0));
    assert_eq!(rich.answers[0].ttl, 0);
}

#[test]
fn an_answer_that_is_too_large_for_the_client_is_cut_to_the_question() {
    let (asked, answer) = answer_to("name.example.", 100, 100);
    let (told, client) = (told(&answer, &asked), request(&query("name.example.")));
    let cut = told.retell(&client, 0, Transport::Udp);
    assert!(cut.len() <= 512);
    let cut = Message::from_vec(&cut).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty() && cut.queries.len() == 1);
    let whole = Message::from_vec(&told.retell(&client, 0, Transport::Tcp)).unwrap();
    assert_eq!(whole.answers.len(), 100);
}

#[test]
fn only_the_answer_to_the_question_is_heard() {
    let (asked, answer) = answer_to("name.example.", 100, 1);
    let refuse = |change: &dyn Fn(&mut Message)| {
        let mut other = Message::from_vec(&answer).unwrap();
        change(&mut other);
        assert_eq!(hear(&other.to_vec().unwrap(), &asked), None);
    };
    refuse(&|it| it.metadata.id = 98);
    refuse(&|it| it.metadata.message_type = MessageType::Query);
    refuse(&|it| it.metadata.op_code = OpCode::Notify);
    refuse(&|it| it.queries.clear());
    refuse(&|it| it.queries[0].query_type = RecordType::AAAA);
    refuse(&|it| it.queries[0].name = Name::from_ascii("nome.example.").unwrap());
    let mut spelled = Message::from_vec(&answer).unwrap();
    spelled.queries[0].name = Name::from_ascii("NAME.example.").unwrap();
    assert!(hear(&spelled.to_vec().unwrap(), &asked).is_some(), "case does not matter");
}

#[test]
fn what_is_no_answer_is_told_apart() {
    let (asked, answer) = answer_to("name.example.", 100, 1);
    let mut message = Message::from_vec(&answer).unwrap();
    message.metadata.truncation = true;
    assert_eq!(hear(&message.to_vec().unwrap(), &asked), Some(Heard::Truncated));
    for (code, number) in
        [(ResponseCode::ServFail, 2), (ResponseCode::Refused, 5), (ResponseCode::FormErr, 1)]
    {
        message.metadata.response_code = code;
        assert_eq!(hear(&message.to_vec().unwrap(), &asked), Some(Heard::Failure(number)));
    }
}

#[test]
fn a_no_is_kept_as_long_as_its_authority_says() {
    let (asked, answer) = answer_to("name.example.", 100, 0);
    assert_eq!(told(&answer, &asked).ttl, 0, "without an authority not at all");
    let mut message = Message::from_vec(&answer).unwrap();
    message.metadata.response_code = ResponseCode::NXDomain;
    let soa = Soa::new(Name::root(), Name::root(), 1, 2, 3, 4, 20);
    message.add_authority(Record::from_rdata(Name::from_ascii("example.").unwrap(), 300, RData::SOA(soa)));
    let told = told(&message.to_vec().unwrap(), &asked);
    assert!(told.ttl == 20 && told.is_no_name());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_from_an_upstream_never_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (asked, _) = answer_to("name.example.", 1, 0);
        if let Some(Heard::Answer(told)) = hear(&bytes, &asked) {
            told.retell(&request(&query("name.example.")), 1, Transport::Udp);
        }
    }

    #[test]
    fn a_spoilt_answer_is_refused_or_can_be_retold(at in 12usize..200, byte: u8, cut in 0usize..220) {
        let (asked, mut answer) = answer_to("name.example.", 1, 8);
        let index = at % answer.len();
        answer[index] = byte;
        answer.truncate(cut.max(29));
        if let Some(Heard::Answer(told)) = hear(&answer, &asked) {
            let client = request(&query("name.example."));
            let bytes = told.retell(&client, 1, Transport::Udp);
            prop_assert!(bytes.len() <= client.room(Transport::Udp));
            prop_assert_eq!(&bytes[..2], &client.id.to_be_bytes());
        }
    }
}
