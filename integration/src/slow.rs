//! A line on which answers take their time: a TCP relay on a host, in front of a server elsewhere.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::probe::in_netns;

/// A relay. It ends when it is dropped; connections that it has taken end with either of their sides.
#[derive(Debug)]
pub struct SlowLine {
    delay: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl SlowLine {
    /// A relay in the network namespace at `netns`, from `listen` there to `server`. Nothing is delayed at first.
    ///
    /// # Errors
    /// There is no such namespace; it cannot listen there.
    pub fn new(netns: &std::path::Path, listen: SocketAddr, server: SocketAddr) -> Result<Self> {
        let (delay, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (its_delay, its_end) = (Arc::clone(&delay), Arc::clone(&ended));
        in_netns(netns, move || {
            let listener = TcpListener::bind(listen).with_context(|| format!("listen at {listen}"))?;
            listener.set_nonblocking(true).context("a listener that does not wait")?;
            // A thread is in the namespace of the one that starts it.
            thread::spawn(move || accept(&listener, server, &its_delay, &its_end));
            Ok(())
        })?;
        Ok(Self { delay, ended })
    }

    /// From now on each piece of an answer comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, delay: &Arc<AtomicU64>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        let Ok((client, _from)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let delay = Arc::clone(delay);
        thread::spawn(move || relay(client, server, delay));
    }
}

/// Carry one connection: requests at once, answers late. A side that ends takes the other one with it.
fn relay(client: TcpStream, server: SocketAddr, delay: Arc<AtomicU64>) -> Option<()> {
    client.set_nonblocking(false).ok()?;
    let server = TcpStream::connect(server).ok()?;
    for side in [&client, &server] {
        side.set_nodelay(true).ok()?;
    }
    let (requests, to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let up = thread::spawn(move || {
        pieces(requests, |piece| (&to_server).write_all(&piece).is_ok());
        to_server.shutdown(Shutdown::Both).ok()
    });
    let (queue, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    let down = thread::spawn(move || {
        for (at, piece) in due {
            thread::sleep(at.saturating_duration_since(Instant::now()));
            if (&client).write_all(&piece).is_err() {
                break;
            }
        }
        client.shutdown(Shutdown::Both).ok()
    });
    pieces(server, |piece| {
        let late = Duration::from_millis(delay.load(Ordering::Relaxed));
        queue.send((Instant::now() + late, piece)).is_ok()
    });
    drop(queue);
    up.join().ok()??;
    down.join().ok()?
}

/// Hand on what comes, until it ends or nobody takes it.
fn pieces(mut from: TcpStream, mut take: impl FnMut(Vec<u8>) -> bool) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if !take(buffer.get(..length).unwrap_or_default().to_vec()) {
            return;
        }
    }
}
