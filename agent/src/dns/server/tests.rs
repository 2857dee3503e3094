//! One sandbox's resolver, on sockets of the test's own.

use std::{collections::BTreeSet, path::Path};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name as DnsName, RData, RecordType, rdata::A},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use tokio::task::JoinHandle;

use super::*;
use crate::{
    dns::{
        HostConf,
        outside::tests::sandbox,
        upstream::Forwarder,
        zone::tests::{bridge, endpoint},
    },
    intent::{Fact, Source},
    kernel::MemoryKernel,
    model::{DnsChoice, testing::ME},
    reconcile::world::World,
};

const LIMIT: Duration = Duration::from_secs(5);

/// A resolver for the sandbox `a`, which is in a network with `b`; it ends with this.
struct Running {
    address: SocketAddr,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// With these servers of the sandbox's own; they cannot be asked, since there is no namespace.
async fn run(servers: &[&str]) -> Running {
    let world = Arc::new(World::new(ME));
    world.feed_snapshot(Source::Global, 1, Vec::new(), &BTreeSet::new());
    let (net, own) = (bridge("net", 1), sandbox("a", servers));
    let mut facts =
        vec![Fact::Network(net.id, Some(net.clone())), Fact::Sandbox(own.name.clone(), Some(own.clone()))];
    for (number, name) in [(1, "a"), (2, "b")] {
        let endpoint = endpoint(&net, number, name, &[&format!("10.1.0.{number}/16")]);
        facts.push(Fact::Endpoint(net.id, endpoint.id, Some(endpoint)));
    }
    world.feed_snapshot(Source::Local, 1, facts, &BTreeSet::new());
    let shared = Shared {
        world,
        is_down: Box::new(|_| false),
        host: Arc::new(HostConf::new(Path::new("/nowhere"))),
        defaults: DnsChoice::default(),
        forwarder: Forwarder::new(Arc::new(MemoryKernel::default())),
        machine: Arc::new(MemoryKernel::default()),
        before: std::sync::RwLock::default(),
    };
    let netns = Netns::Path("/nowhere".into());
    let resolver = Arc::new(Resolver::new(Arc::new(shared), own.name, own.id, netns));
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(address).await.unwrap();
    let stop = CancellationToken::new();
    Running { address, task: tokio::spawn(resolver.serve(udp, tcp, stop.clone())), stop }
}

fn query(name: &str) -> Vec<u8> {
    let mut message = Message::new(9, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(DnsName::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn client(of: &Running) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(of.address).await.unwrap();
    socket
}

async fn heard(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 4096];
    let length = timeout(LIMIT, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

/// The neighbour's address, and nothing else.
fn is_b(message: &Message) {
    let told: Vec<&RData> = message.answers.iter().map(|record| &record.data).collect();
    assert_eq!(told, [&RData::A(A::new(10, 1, 0, 2))]);
}

#[tokio::test]
async fn a_name_is_answered_by_udp_and_several_times_on_one_connection() {
    let resolver = run(&[]).await;
    let socket = client(&resolver).await;
    socket.send(&query("B.")).await.unwrap();
    is_b(&heard(&socket).await);
    let mut stream = TcpStream::connect(resolver.address).await.unwrap();
    for _question in 0..3 {
        let question = query("b.net.");
        stream.write_u16(u16::try_from(question.len()).unwrap()).await.unwrap();
        // In two pieces, as it may come.
        stream.write_all(&question[..5]).await.unwrap();
        stream.flush().await.unwrap();
        stream.write_all(&question[5..]).await.unwrap();
        let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut answer).await.unwrap();
        is_b(&Message::from_vec(&answer).unwrap());
    }
}

#[tokio::test]
async fn whatever_is_sent_the_resolver_goes_on() {
    let resolver = run(&["127.0.0.11"]).await;
    let socket = client(&resolver).await;
    let mut runner = TestRunner::deterministic();
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..600);
    for _packet in 0..2000 {
        let packet = bytes.new_tree(&mut runner).unwrap().current();
        // One that is refused by our own kernel is not the resolver's business.
        socket.send(&packet).await.ok();
    }
    // The answers that there are, are drained; the last question has another port.
    let socket = client(&resolver).await;
    socket.send(&query("b.")).await.unwrap();
    is_b(&heard(&socket).await);
    for packet in 0..50 {
        let packet = bytes.new_tree(&mut runner).unwrap().current().repeat(packet);
        let mut stream = TcpStream::connect(resolver.address).await.unwrap();
        stream.write_all(&packet).await.ok();
    }
    assert!(!resolver.task.is_finished());
    socket.send(&query("b.")).await.unwrap();
    is_b(&heard(&socket).await);
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out_for_long() {
    let resolver = run(&[]).await;
    let mut idle = Vec::new();
    for _connection in 0..MOST_CONNECTIONS {
        idle.push(TcpStream::connect(resolver.address).await.unwrap());
    }
    // One too many is closed, and UDP goes on.
    let mut more = TcpStream::connect(resolver.address).await.unwrap();
    assert_eq!(timeout(LIMIT, more.read(&mut [0; 2])).await.expect("it is closed").unwrap_or(0), 0);
    let socket = client(&resolver).await;
    socket.send(&query("b.")).await.unwrap();
    is_b(&heard(&socket).await);
    let start = tokio::time::Instant::now();
    let mut first = idle.remove(0);
    assert_eq!(timeout(2 * IDLE, first.read(&mut [0; 2])).await.expect("it is closed").unwrap_or(0), 0);
    assert!(start.elapsed() <= IDLE + LIMIT, "{:?}", start.elapsed());
}

#[tokio::test]
async fn servers_that_cannot_be_asked_are_a_failure_at_once_and_our_names_go_on() {
    let resolver = run(&["192.0.2.1"]).await;
    let socket = client(&resolver).await;
    socket.send(&query("example.com.")).await.unwrap();
    assert_eq!(heard(&socket).await.metadata.response_code, ResponseCode::ServFail);
    for _question in 0..2 * MOST_WAITING {
        socket.send(&query("example.com.")).await.unwrap();
    }
    for _answer in 0..2 * MOST_WAITING {
        assert_eq!(heard(&socket).await.metadata.response_code, ResponseCode::ServFail);
    }
    socket.send(&query("b.")).await.unwrap();
    is_b(&heard(&socket).await);
}

#[tokio::test]
async fn nothing_is_left_open_when_a_resolver_ends() {
    let mut resolver = run(&["192.0.2.1"]).await;
    let _connection = TcpStream::connect(resolver.address).await.unwrap();
    let socket = client(&resolver).await;
    for _question in 0..MOST_WAITING {
        socket.send(&query("example.com.")).await.unwrap();
    }
    resolver.stop.cancel();
    timeout(LIMIT, &mut resolver.task).await.expect("it ends").unwrap();
    UdpSocket::bind(resolver.address).await.expect("its port is free");
    assert!(TcpStream::connect(resolver.address).await.is_err());
}
