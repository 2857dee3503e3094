//! The two ends of the traffic: a server that answers, and a client that measures. Small, blocking, and both on one CPU:
//! on different ones a stream over veth is reordered in the per-CPU backlog, and the figures are noise.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{setsockopt, sockopt},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::figure::median;

/// UDP and TCP port of the server.
pub(crate) const PORT: u16 = 5201;
/// First byte of a datagram that is to be answered at once.
const ECHO: u8 = b'e';
/// First byte of a datagram that is only counted.
const COUNT: u8 = b'c';
/// First byte of the datagram that asks for the count since the last one.
const ASK: u8 = b'a';
/// Payload of the datagrams in bytes.
const SMALL: usize = 64;
/// Round trips of one slice.
const TRIPS: usize = 1000;
/// Packets between two questions for the count: few enough for the receiver's buffer.
const BURST: u64 = 64;
/// How long packets, and then a stream, are sent in one slice.
const SPAN: Duration = Duration::from_millis(80);
/// Slices of one run, of which the best counts: a neighbour on the machine makes slices worse, never better.
pub(crate) const SLICES: usize = 8;
/// After this long an answer is lost.
const LOST: Duration = Duration::from_millis(200);

/// The figures of one run of the client.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// Median round trip of a small datagram in microseconds.
    pub(crate) round_trip_us: f64,
    /// Small datagrams that arrived, per second.
    pub(crate) packets_per_s: f64,
    /// One TCP stream in Gbit/s of payload.
    pub(crate) stream_gbit_s: f64,
}

/// Both ends on one CPU.
pub(crate) fn pin() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(0).context("choose a CPU")?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("pin to a CPU")
}

/// Answer until killed.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    pin()?;
    let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
    let socket = UdpSocket::bind(address).with_context(|| format!("bind {address}"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away ends its own stream only.
            sink(stream).ok();
        }
    });
    let mut out = io::stdout();
    writeln!(out, "ready").and_then(|()| out.flush()).context("say that it is ready")?;
    let mut buffer = [0; 2048];
    let mut count: u64 = 0;
    loop {
        let (length, from) = socket.recv_from(&mut buffer).context("receive")?;
        match buffer[0] {
            ECHO => drop(socket.send_to(&buffer[..length], from).context("answer")?),
            ASK => {
                buffer[1..9].copy_from_slice(&count.to_be_bytes());
                count = 0;
                socket.send_to(&buffer[..length], from).context("answer")?;
            }
            _ => count += 1,
        }
    }
}

fn sink(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total: u64 = 0;
    loop {
        match stream.read(&mut buffer).context("receive")? {
            0 => break,
            length => total += length as u64,
        }
    }
    stream.write_all(&total.to_be_bytes()).context("tell the count")
}

/// Measure against the server at `address` and print the figures.
pub(crate) fn load(address: SocketAddr) -> Result<()> {
    pin()?;
    let socket = UdpSocket::bind("0.0.0.0:0").context("bind")?;
    socket.connect(address).context("connect")?;
    socket.set_read_timeout(Some(LOST)).context("set a time limit")?;
    let sample = Sample {
        round_trip_us: 1e6 / slices(|| Ok(1e6 / round_trip(&socket)?))?,
        packets_per_s: slices(|| packets(&socket))?,
        stream_gbit_s: slices(|| stream(address))?,
    };
    let mut out = io::stdout();
    serde_json::to_writer(&mut out, &sample).context("print")?;
    writeln!(out).context("print")
}

fn slices(measure: impl Fn() -> Result<f64>) -> Result<f64> {
    let values = (0..SLICES).map(|_slice| measure()).collect::<Result<Vec<_>>>()?;
    Ok(values.into_iter().fold(0.0, f64::max))
}

fn round_trip(socket: &UdpSocket) -> Result<f64> {
    let (mut packet, mut trips) = ([0; SMALL], Vec::with_capacity(TRIPS));
    packet[0] = ECHO;
    let mut answer = [0; 2048];
    for trip in 0..TRIPS + 100 {
        let start = Instant::now();
        socket.send(&packet).context("send")?;
        if socket.recv(&mut answer).is_ok() && trip >= 100 {
            trips.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    if trips.len() < TRIPS / 2 {
        bail!("{} of {TRIPS} datagrams were answered", trips.len());
    }
    Ok(median(&trips))
}

/// Bursts, each followed by a question for what has arrived: the sender never runs away from the receiver.
fn packets(socket: &UdpSocket) -> Result<f64> {
    let (mut packet, mut ask, mut answer) = ([0; SMALL], [0; SMALL], [0; 2048]);
    (packet[0], ask[0]) = (COUNT, ASK);
    let start = Instant::now();
    let mut arrived = 0_u32;
    while start.elapsed() < SPAN {
        for _ in 0..BURST {
            socket.send(&packet).context("send")?;
        }
        socket.send(&ask).context("ask")?;
        if socket.recv(&mut answer).is_ok() {
            let mut count = [0; 8];
            count.copy_from_slice(&answer[1..9]);
            arrived += u32::try_from(u64::from_be_bytes(count)).context("a count")?;
        }
    }
    Ok(f64::from(arrived) / start.elapsed().as_secs_f64())
}

fn stream(address: SocketAddr) -> Result<f64> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    // The default may pace (bbr), which measures a timer. Where the other is refused both runs use the default.
    setsockopt(&stream, sockopt::TcpCongestion, &"cubic".into()).ok();
    let buffer = vec![0; 128 * 1024];
    let start = Instant::now();
    while start.elapsed() < SPAN {
        stream.write_all(&buffer).context("send")?;
    }
    stream.shutdown(Shutdown::Write).context("end the stream")?;
    let mut total = [0; 8];
    stream.read_exact(&mut total).context("the server's count")?;
    let seconds = start.elapsed().as_secs_f64();
    let bits = u32::try_from(u64::from_be_bytes(total) / 1000).context("a count")?;
    Ok(f64::from(bits) * 8e3 / seconds / 1e9)
}
