//! The watch service. A watcher is a range and the revision it has reached: it reads on from the history when the
//! revision moves, at the pace of its client.
//!
//! So a slow client costs no memory; when it falls behind what the history keeps, its watch is cancelled with the
//! revision from which it can start again, and it lists.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{
    EventType, WatchFilterType,
    proto::{PbEvent, PbWatchRequest, PbWatchRequestUnion, PbWatchResponse, PbWatchService},
};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use tonic::{Request, Response, Status, Streaming};

use super::{fault::Fault, record::Span, service::Service};

/// Watches of one stream.
const WATCHES_MAX: usize = 1000;
/// Time between progress notifications of an idle watch that asked for them.
const PROGRESS: Duration = Duration::from_secs(60);
/// The number of no watch: what a refused one, and an asked-for progress, carry.
const NO_WATCH: i64 = -1;

/// One watch.
struct Watcher {
    span: Span,
    /// The next revision to read.
    next: i64,
    prev_kv: bool,
    progress: bool,
    no_put: bool,
    no_delete: bool,
}

impl Watcher {
    /// The event as this watch wants it, if it does.
    fn select(&self, event: &PbEvent) -> Option<PbEvent> {
        let kv = event.kv.as_ref().filter(|kv| self.span.contains(&kv.key))?;
        let filtered = match EventType::try_from(event.r#type) {
            Ok(EventType::Put) => self.no_put,
            Ok(EventType::Delete) => self.no_delete,
            Err(_unknown) => true,
        };
        let prev_kv = event.prev_kv.as_ref().filter(|_| self.prev_kv).cloned();
        (!filtered).then(|| PbEvent { r#type: event.r#type, kv: Some(kv.clone()), prev_kv })
    }
}

/// One stream with its watches.
struct Session {
    service: Service,
    requests: Streaming<PbWatchRequest>,
    revision: watch::Receiver<i64>,
    /// Up to where every watch has been served.
    reached: i64,
    watchers: BTreeMap<i64, Watcher>,
    next_id: i64,
    progress: Interval,
    /// Watches that are to be told how far they are.
    untold: Vec<i64>,
}

#[tonic::async_trait]
impl PbWatchService for Service {
    type WatchStream = BoxStream<'static, Result<PbWatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<PbWatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut progress = interval_at(Instant::now() + PROGRESS, PROGRESS);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let session = Session {
            service: self.clone(),
            requests: request.into_inner(),
            revision: self.engine.subscribe(),
            reached: 0,
            watchers: BTreeMap::new(),
            next_id: 0,
            progress,
            untold: Vec::new(),
        };
        let answers =
            unfold(
                session,
                |mut session| async move { session.next().await.map(|answer| (answer, session)) },
            );
        Ok(Response::new(answers.boxed()))
    }
}

impl Session {
    async fn next(&mut self) -> Option<Result<PbWatchResponse, Status>> {
        loop {
            match self.advance() {
                Ok(None) => {}
                Ok(Some(answer)) => return Some(Ok(answer)),
                Err(fault) => return Some(Err(fault.into())),
            }
            if let Some(id) = self.untold.pop() {
                return Some(Ok(self.answer(id, self.reached)));
            }
            // Every arm only waits for its own source; what another one takes is kept in the session.
            tokio::select! {
                () = self.service.stop.cancelled() => return None,
                moved = self.revision.changed() => moved.ok()?,
                _ = self.progress.tick() => {
                    let ids = self.watchers.iter().filter(|(_, watcher)| watcher.progress).map(|(id, _)| *id);
                    self.untold = ids.collect();
                }
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Some(answer) = self.take(request) {
                            return Some(Ok(answer));
                        }
                    }
                    Ok(None) => return None,
                    Err(status) => return Some(Err(status)),
                },
            }
        }
    }

    /// Reads on for the first watch that is behind, up to something to tell. A piece of history is at most a megabyte,
    /// mostly from memory: it is read right here.
    fn advance(&mut self) -> Result<Option<PbWatchResponse>, Fault> {
        let latest = *self.revision.borrow_and_update();
        while let Some((&id, next)) =
            self.watchers.iter().map(|(id, watcher)| (id, watcher.next)).find(|(_, next)| *next <= latest)
        {
            let (history, reached) = match self.service.engine.events(next) {
                Err(Fault::Compacted) => return self.fell_behind(id).map(Some),
                read => read?,
            };
            let mut answer = self.answer(id, latest);
            if let Some(watcher) = self.watchers.get_mut(&id) {
                watcher.next = reached;
                answer.events = history.iter().filter_map(|event| watcher.select(event)).collect();
            }
            if !answer.events.is_empty() {
                return Ok(Some(answer));
            }
        }
        self.reached = latest;
        Ok(None)
    }

    /// Cancels a watch whose events are no longer kept.
    fn fell_behind(&mut self, id: i64) -> Result<PbWatchResponse, Fault> {
        self.watchers.remove(&id);
        let compact_revision = self.service.engine.compacted()? + 1;
        let cancel_reason = Fault::Compacted.to_string();
        Ok(PbWatchResponse {
            canceled: true,
            compact_revision,
            cancel_reason,
            ..self.answer(id, self.reached)
        })
    }

    fn take(&mut self, request: PbWatchRequest) -> Option<PbWatchResponse> {
        match request.request_union? {
            PbWatchRequestUnion::CreateRequest(mut create) => {
                self.service.access.clip(&mut create.key, &mut create.range_end);
                let span = match Span::new(&create.key, &create.range_end) {
                    Ok(span) => span,
                    Err(fault) => return Some(self.refuse(&fault.to_string())),
                };
                let filtered = |kind: WatchFilterType| create.filters.contains(&(kind as i32));
                let now = *self.revision.borrow();
                let watcher = Watcher {
                    span,
                    next: if create.start_revision > 0 { create.start_revision } else { now + 1 },
                    prev_kv: create.prev_kv,
                    progress: create.progress_notify,
                    no_put: filtered(WatchFilterType::NoPut),
                    no_delete: filtered(WatchFilterType::NoDelete),
                };
                Some(self.place(create.watch_id, watcher, now))
            }
            PbWatchRequestUnion::CancelRequest(cancel) => {
                self.watchers.remove(&cancel.watch_id)?;
                Some(PbWatchResponse { canceled: true, ..self.answer(cancel.watch_id, self.reached) })
            }
            // All watches have just been brought up to the revision in the header.
            PbWatchRequestUnion::ProgressRequest(_) => Some(self.answer(NO_WATCH, self.reached)),
        }
    }

    /// Takes a watch in, as `wanted`; 0 asks for a number of our choice.
    fn place(&mut self, wanted: i64, watcher: Watcher, now: i64) -> PbWatchResponse {
        if wanted != 0 && self.watchers.contains_key(&wanted) {
            return self.refuse("mvcc: duplicate watch ID provided on the WatchStream");
        }
        if self.watchers.len() >= WATCHES_MAX {
            return self.refuse("ovnet: too many watches on one stream");
        }
        let id = if wanted != 0 { wanted } else { self.unused() };
        self.watchers.insert(id, watcher);
        PbWatchResponse { created: true, ..self.answer(id, now) }
    }

    fn refuse(&self, reason: &str) -> PbWatchResponse {
        let answer = self.answer(NO_WATCH, self.reached);
        PbWatchResponse { created: true, canceled: true, cancel_reason: reason.into(), ..answer }
    }

    fn unused(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    /// An empty answer that shows `revision`.
    fn answer(&self, watch_id: i64, revision: i64) -> PbWatchResponse {
        PbWatchResponse { header: self.service.header(revision), watch_id, ..PbWatchResponse::default() }
    }
}
