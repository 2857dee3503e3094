//! Against servers of the test's own, on loopback addresses.

use std::{future::Future, net::Ipv4Addr, sync::Arc};

use hickory_proto::{
    op::Query,
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use super::*;
use crate::kernel::MemoryKernel;

fn request(name: &str) -> Request {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    Request::parse(&message.to_vec().unwrap()).unwrap()
}

/// The answer of a server to `packet`: an address that tells the server.
fn answer(packet: &[u8], server: u8) -> Message {
    let mut message = Message::from_vec(packet).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.edns = None;
    let name = message.queries[0].name.clone();
    message.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(192, 0, 2, server)))));
    message
}

fn code(packet: &[u8], code: ResponseCode) -> Message {
    let mut message = answer(packet, 0);
    message.answers.clear();
    message.metadata.response_code = code;
    message
}

/// A server whose `answers` to each packet are sent one after the other.
async fn server<F>(tasks: &mut JoinSet<()>, answers: impl Fn(Vec<u8>) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = Vec<Vec<u8>>> + Send,
{
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tasks.spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            for answer in answers(buffer[..length].to_vec()).await {
                socket.send_to(&answer, client).await.unwrap();
            }
        }
    });
    address
}

async fn good(tasks: &mut JoinSet<()>, number: u8) -> SocketAddr {
    server(tasks, move |packet| async move { vec![answer(&packet, number).to_vec().unwrap()] }).await
}

async fn coded(tasks: &mut JoinSet<()>, with: ResponseCode) -> SocketAddr {
    server(tasks, move |packet| async move { vec![code(&packet, with).to_vec().unwrap()] }).await
}

async fn silent(tasks: &mut JoinSet<()>) -> SocketAddr {
    server(tasks, |_packet| async { Vec::new() }).await
}

/// Nobody listens there.
async fn closed() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn all(servers: &[SocketAddr]) -> Upstreams {
    let servers = servers.iter().map(|server| (*server, Route::Host)).collect();
    Upstreams { scope: Scope::Host(1), servers, unsure: false }
}

/// The answer of these servers, what it says, and how long it took.
async fn ask(forwarder: &Forwarder, name: &str, from: &Upstreams) -> (Message, Option<u8>, Duration) {
    let start = Instant::now();
    let answer = forwarder.forward(&request(name), from, Transport::Udp).await;
    let message = Message::from_vec(&answer).unwrap();
    let told = message.answers.first().map(|record| {
        let RData::A(A(address)) = &record.data else { panic!("{record:?}") };
        address.octets()[3]
    });
    (message, told, start.elapsed())
}

fn forwarder() -> Forwarder {
    Forwarder::new(Arc::new(MemoryKernel::default()))
}

#[tokio::test]
async fn a_server_that_is_dead_closed_or_slow_costs_nothing_if_another_answers() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let slow = server(&mut tasks, |packet| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        vec![answer(&packet, 9).to_vec().unwrap()]
    })
    .await;
    let servers = [silent(&mut tasks).await, closed().await, slow, good(&mut tasks, 1).await];
    let (message, told, took) = ask(&forwarder, "a.example.", &all(&servers)).await;
    assert_eq!((message.id, told), (7, Some(1)));
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test]
async fn a_server_that_cannot_tell_is_no_reason_to_wait_for_a_dead_one() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let failing = coded(&mut tasks, ResponseCode::ServFail).await;
    let (message, _, took) = ask(&forwarder, "a.example.", &all(&[failing, silent(&mut tasks).await])).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert!(took < GRACE + Duration::from_millis(500), "{took:?}");
    let (_, told, _) = ask(&forwarder, "a.example.", &all(&[failing, good(&mut tasks, 2).await])).await;
    assert_eq!(told, Some(2), "but the one that can is waited for");
    let (message, _, took) = ask(&forwarder, "a.example.", &all(&[closed().await])).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_any_answer_there_is_one_before_the_client_gives_up() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let (message, _, took) = ask(&forwarder, "a.example.", &all(&[silent(&mut tasks).await])).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert!(took >= DEADLINE && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn lies_are_not_heard() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let liar = server(&mut tasks, |packet| async move {
        let mut wrong_id = answer(&packet, 66);
        wrong_id.metadata.id ^= 1;
        let mut wrong_name = answer(&packet, 67);
        wrong_name.queries[0].name = Name::from_ascii("b.example.").unwrap();
        let lies = [wrong_id, wrong_name].map(|lie| lie.to_vec().unwrap());
        lies.into_iter().chain([vec![1, 2, 3], answer(&packet, 3).to_vec().unwrap()]).collect()
    })
    .await;
    assert_eq!(ask(&forwarder, "a.example.", &all(&[liar])).await.1, Some(3));
}

#[tokio::test]
async fn the_right_answer_from_somebody_else_is_not_heard() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tasks.spawn(async move {
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut buffer = [0; 2048];
        let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
        other.send_to(&answer(&buffer[..length], 66).to_vec().unwrap(), client).await.unwrap();
        socket.send_to(&answer(&buffer[..length], 4).to_vec().unwrap(), client).await.unwrap();
    });
    assert_eq!(ask(&forwarder, "a.example.", &all(&[address])).await.1, Some(4));
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_asked_for_again_by_tcp() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let address = server(&mut tasks, |packet| async move {
        let mut cut = answer(&packet, 66);
        cut.metadata.truncation = true;
        vec![cut.to_vec().unwrap()]
    })
    .await;
    let listener = TcpListener::bind(address).await.unwrap();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut packet = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut packet).await.unwrap();
        let message = answer(&packet, 5).to_vec().unwrap();
        stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
        stream.write_all(&message).await.unwrap();
    });
    let (message, told, _) = ask(&forwarder, "a.example.", &all(&[address])).await;
    assert_eq!((told, message.metadata.truncation), (Some(5), false));
}

#[tokio::test]
async fn a_server_that_does_not_know_edns_is_asked_without() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let old = server(&mut tasks, |packet| async move {
        let message = match Message::from_vec(&packet).unwrap().edns {
            Some(_) => code(&packet, ResponseCode::FormErr),
            None => answer(&packet, 6),
        };
        vec![message.to_vec().unwrap()]
    })
    .await;
    assert_eq!(ask(&forwarder, "a.example.", &all(&[old])).await.1, Some(6));
}

#[tokio::test]
async fn what_was_heard_is_told_again_and_never_to_whom_asks_others() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let from = all(&[good(&mut tasks, 7).await]);
    assert!(forwarder.known(&request("a.example."), &from, Transport::Udp).is_none());
    ask(&forwarder, "a.example.", &from).await;
    let known = |name: &str, from: &Upstreams| forwarder.known(&request(name), from, Transport::Udp);
    let message = Message::from_vec(&known("A.Example.", &from).unwrap()).unwrap();
    assert_eq!(message.queries[0].name.to_ascii(), "A.Example.");
    assert!(known("b.example.", &from).is_none());
    assert!(known("a.example.", &Upstreams { scope: Scope::Host(2), ..from }).is_none());
}

#[tokio::test]
async fn as_long_as_a_name_may_be_ours_nobody_elses_no_is_told() {
    let (mut tasks, forwarder) = (JoinSet::new(), forwarder());
    let mut from = all(&[coded(&mut tasks, ResponseCode::NXDomain).await]);
    assert_eq!(ask(&forwarder, "a.b.", &from).await.0.metadata.response_code, ResponseCode::NXDomain);
    from.unsure = true;
    assert_eq!(ask(&forwarder, "a.b.", &from).await.0.metadata.response_code, ResponseCode::ServFail);
    assert!(forwarder.known(&request("a.b."), &from, Transport::Udp).is_none());
}

#[tokio::test]
async fn very_many_questions_at_once_all_have_an_answer() {
    let (mut tasks, forwarder) = (JoinSet::new(), Arc::new(forwarder()));
    let from = all(&[good(&mut tasks, 8).await]);
    let mut asking = JoinSet::new();
    for number in 0..1000 {
        let (forwarder, from) = (Arc::clone(&forwarder), from.clone());
        asking.spawn(async move { ask(&forwarder, &format!("n{number}.example."), &from).await.1 });
    }
    while let Some(told) = asking.join_next().await {
        assert_eq!(told.unwrap(), Some(8));
    }
}
