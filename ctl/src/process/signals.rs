//! The signals that are handed on to the command of `run` and `exec`.

use std::{
    future::poll_fn,
    io::{self, IsTerminal as _, stdin},
    task::{Context, Poll, Waker},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use tokio::signal::unix::{self, SignalKind};

use crate::failure::Failure;

/// Signals that reached ovctl.
#[derive(Debug)]
pub(crate) struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
}

impl Signals {
    /// Takes the signals over from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let kinds = [
            (Signal::SIGINT, SignalKind::interrupt()),
            (Signal::SIGTERM, SignalKind::terminate()),
            (Signal::SIGHUP, SignalKind::hangup()),
            (Signal::SIGQUIT, SignalKind::quit()),
            (Signal::SIGUSR1, SignalKind::user_defined1()),
            (Signal::SIGUSR2, SignalKind::user_defined2()),
        ];
        let listen = |(signal, kind)| Ok((signal, unix::signal(kind)?));
        let streams = kinds.into_iter().map(listen).collect::<io::Result<_>>();
        Ok(Self { streams: streams.map_err(Failure::local("take over signals"))? })
    }

    /// The next signal. Cancel-safe: a signal is taken only when it is returned.
    pub(super) async fn next(&mut self) -> Signal {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// A signal that has come already.
    pub(crate) fn pending(&mut self) -> Option<Signal> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(signal) => Some(signal),
            Poll::Pending => None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.streams {
            if let Poll::Ready(Some(())) = stream.poll_recv(cx) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }
}

/// Hands `signal` on to the process, which may have ended meanwhile.
pub(super) fn forward(signal: Signal, pid: u32) {
    // A key on the terminal reaches all processes in front of it, the command too: once is enough.
    let by_key = matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && in_front_of_terminal();
    if let Some(pid) = i32::try_from(pid).ok().filter(|_pid| !by_key) {
        kill(Pid::from_raw(pid), signal).ok();
    }
}

fn in_front_of_terminal() -> bool {
    stdin().is_terminal() && tcgetpgrp(stdin()).is_ok_and(|front| front == getpgrp())
}
