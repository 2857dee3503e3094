//! Asking others: all servers at the same time, the first good answer wins, and what was heard is kept for a while.
//!
//! One that is dead, or lies, costs nothing but its own share of a deadline. Each question has a socket (so a port) and an
//! id of its own for each server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    cache::{Cache, Key, Scope},
    exchange::{Failure, Inquiry, Route},
    message::{HEADER, Request, Transport},
    wire::Told,
};
use crate::kernel::Sockets;

/// How long all of them have: less than the five seconds after which the C library asks again.
const DEADLINE: Duration = Duration::from_secs(4);
/// How long the others have, once one of them has said that it cannot tell.
const GRACE: Duration = Duration::from_millis(700);
/// Most questions under way at once; each has a socket for each server.
const MOST: usize = 192;
/// Most connections by TCP from sandboxes that are being made at once: each holds a thread of the few that there are.
const MOST_CONNECTING: usize = 2;
/// Largest answer by UDP that servers may send us (DNS flag day 2020).
const OFFER: u16 = 1232;

/// Whom to ask.
#[derive(Clone, Debug)]
pub(super) struct Upstreams {
    /// The sandbox that they belong to.
    pub(super) scope: Scope,
    /// Where they are, and from where they are asked.
    pub(super) servers: Vec<(SocketAddr, Route)>,
    /// A "no such name" is not to be believed: it may yet be one of ours.
    pub(super) unsure: bool,
}

/// What asks others, and remembers.
#[derive(Debug)]
pub(super) struct Forwarder {
    sockets: Arc<dyn Sockets>,
    cache: Mutex<Cache>,
    under_way: Semaphore,
    connecting: Semaphore,
}

impl Forwarder {
    pub(super) fn new(sockets: Arc<dyn Sockets>) -> Self {
        Self {
            sockets,
            cache: Mutex::default(),
            under_way: Semaphore::new(MOST),
            connecting: Semaphore::new(MOST_CONNECTING),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forget old answers.
    pub(super) fn tidy(&self) {
        self.cache().tidy(Instant::now());
    }

    /// The answer, if it is known.
    pub(super) fn known(&self, request: &Request, from: &Upstreams, transport: Transport) -> Option<Vec<u8>> {
        let key = key(&inquiry(request)?, request, from.scope)?;
        let cache = self.cache();
        let (told, age) = cache.get(&key, Instant::now())?;
        (!from.unsure || !told.is_no_name()).then(|| told.retell(request, age, transport))
    }

    /// Ask, and answer: with what was heard, or that nothing was.
    pub(super) async fn forward(&self, request: &Request, from: &Upstreams, transport: Transport) -> Vec<u8> {
        let deadline = Instant::now() + DEADLINE;
        let failed = || request.coded(ResponseCode::ServFail);
        let Some(message) = inquiry(request) else { return failed() };
        // Waiting for one's turn is a part of the time that there is.
        let Ok(Ok(_turn)) = timeout_at(deadline, self.under_way.acquire()).await else { return failed() };
        let Some(told) = self.race(&message, &from.servers, deadline).await else { return failed() };
        if from.unsure && told.is_no_name() {
            return failed();
        }
        let answer = told.retell(request, 0, transport);
        if let Some(key) = key(&message, request, from.scope) {
            self.cache().put(key, told, Instant::now());
        }
        answer
    }

    async fn race(
        &self,
        message: &[u8],
        servers: &[(SocketAddr, Route)],
        mut deadline: Instant,
    ) -> Option<Told> {
        let ask = |(server, route): &(SocketAddr, Route)| {
            let (server, route) = (*server, route.clone());
            async move {
                let inquiry =
                    Inquiry { sockets: &self.sockets, connecting: &self.connecting, server, route, deadline };
                (server, inquiry.ask(message).await)
            }
        };
        let mut asked: FuturesUnordered<_> = servers.iter().map(ask).collect();
        while let Ok(Some((server, heard))) = timeout_at(deadline, asked.next()).await {
            match heard {
                Ok(told) => return Some(told),
                Err(Failure::Code(code)) => {
                    tracing::debug!(%server, code, "a name server returned an error code");
                    deadline = deadline.min(Instant::now() + GRACE);
                }
                Err(Failure::Io(error)) => tracing::debug!(%server, %error, "a name server does not answer"),
            }
        }
        None
    }
}

/// The question as it goes to the servers, with the id still to be chosen. None: it cannot be written, so it was not read.
fn inquiry(request: &Request) -> Option<Vec<u8>> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = request.checking_disabled;
    message.add_query(request.query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(OFFER).set_dnssec_ok(request.edns.is_some_and(|(_, signed)| signed));
    message.set_edns(edns);
    message.to_vec().ok()
}

fn key(inquiry: &[u8], request: &Request, scope: Scope) -> Option<Key> {
    /// Length of the record of EDNS.
    const EDNS: usize = 11;
    let mut question: Box<[u8]> = inquiry.get(HEADER..inquiry.len().checked_sub(EDNS)?)?.into();
    // Type and class, at the end, are numbers.
    let name = question.len().checked_sub(4)?;
    question.get_mut(..name)?.make_ascii_lowercase();
    Some(Key {
        scope,
        question,
        signed: request.edns.is_some_and(|(_, signed)| signed),
        unchecked: request.checking_disabled,
    })
}

#[cfg(test)]
mod tests;
