//! `echo NAME PROTOCOL/PORT[-PORT]...`: answers whoever asks with its name and the address that it sees.
//!
//! A datagram, a line, or a request of HTTP is answered with one line, `NAME ADDRESS PORT`. It says "ready" when all ports
//! are open, and goes on until it is killed.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// A client that says nothing is left after this long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most ports.
const MOST: usize = 4096;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut args = env::args().skip(1);
    let name = args.next().context("usage: echo NAME PROTOCOL/PORT[-PORT]...")?;
    let mut threads = Vec::new();
    for text in args {
        let (protocol, ports) = parse(&text)?;
        for port in ports {
            if threads.len() >= MOST {
                bail!("more than {MOST} ports");
            }
            let name = name.clone();
            threads.push(match protocol {
                "tcp" => {
                    let listener = open(port, TcpListener::bind)?;
                    thread::Builder::new().stack_size(64 * 1024).spawn(move || stream(&listener, &name))
                }
                _ => {
                    let socket = open(port, UdpSocket::bind)?;
                    thread::Builder::new().stack_size(64 * 1024).spawn(move || datagrams(&socket, &name))
                }
            });
        }
    }
    let mut out = io::stdout();
    writeln!(out, "ready").and_then(|()| out.flush()).context("say that it is ready")?;
    for thread in threads {
        thread.context("start a thread")?.join().ok();
    }
    Ok(())
}

fn parse(text: &str) -> Result<(&str, std::ops::RangeInclusive<u16>)> {
    let wrong = || format!("{text:?}: expected tcp/PORT, udp/PORT or a range of ports");
    let (protocol, ports) = text.split_once('/').with_context(wrong)?;
    if !["tcp", "udp"].contains(&protocol) {
        bail!(wrong());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    Ok((protocol, first.parse().with_context(wrong)?..=last.parse().with_context(wrong)?))
}

/// On both families, or on IPv4 where there is no other.
fn open<T>(port: u16, bind: impl Fn(SocketAddr) -> io::Result<T>) -> Result<T> {
    let both = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let four = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    match bind(both) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => bind(four),
        bound => bound,
    }
    .with_context(|| format!("open port {port}"))
}

fn line(name: &str, from: SocketAddr) -> String {
    format!("{name} {} {}\n", from.ip().to_canonical(), from.port())
}

fn stream(listener: &TcpListener, name: &str) {
    for connection in listener.incoming().flatten() {
        let name = name.to_string();
        // A client that goes away ends its own connection only.
        thread::spawn(move || answer(connection, &name).ok());
    }
}

fn answer(mut connection: TcpStream, name: &str) -> io::Result<()> {
    let said = line(name, connection.peer_addr()?);
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    if first.contains(" HTTP/") {
        let mut header = String::new();
        // Up to the empty line: what is left unread would end the connection with a reset.
        while reader.read_line(&mut header)? > 0 && !header.trim().is_empty() {
            header.clear();
        }
        let length = said.len();
        write!(connection, "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    }
    connection.write_all(said.as_bytes())
}

fn datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 2048];
    loop {
        // An error is the answer to an earlier datagram: its client has gone.
        if let Ok((_length, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(line(name, from).as_bytes(), from).ok();
        }
    }
}
