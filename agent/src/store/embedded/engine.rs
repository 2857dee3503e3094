//! The database: one writer, many readers, and a revision that says when to look again.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use etcd_client::proto::{PbEvent, PbRangeRequest, PbRangeResponse, PbResponseHeader};
use redb::{DatabaseError, ReadTransaction, ReadableTable, WriteTransaction};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    EmbeddedError, Limits,
    batch::Batch,
    fault::Fault,
    file::StoreFile,
    head::Head,
    leases::{LEASES_MAX, Leases, TTL_MAX},
    record::{FORMAT, KV, LEASES, LOG, META, decode},
    view::View,
};

/// A page of the file, in bytes.
const PAGE: u64 = 4096;

/// Who this store is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) cluster: u64,
    /// Counts the times it was opened: a copy from a backup shows a lower one.
    pub(super) term: u64,
}

/// The database and what is derived from it.
pub(super) struct Engine {
    file: StoreFile,
    limits: Limits,
    identity: Identity,
    /// Held through each write, from its begin until its news are out.
    writer: Mutex<Head>,
    /// Held for moments only.
    leases: Mutex<Leases>,
    lease_added: Notify,
    revision: watch::Sender<i64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nobody leaves these half changed: what a panicked thread left is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    pub(super) fn open(path: Option<&Path>, limits: Limits) -> Result<Self, EmbeddedError> {
        let named = path.unwrap_or_else(|| Path::new("(memory)")).to_owned();
        let file = StoreFile::open(path).map_err(|error| {
            let path = named.clone();
            if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
                return EmbeddedError::InUse(path);
            }
            EmbeddedError::Open { path, source: Box::new(error.into()) }
        })?;
        Self::load(file, limits)
            .map_err(|fault| EmbeddedError::Open { path: named, source: Box::new(fault.into_storage()) })
    }

    fn load(file: StoreFile, limits: Limits) -> Result<Self, Fault> {
        let txn = file.begin_write()?;
        let (head, identity, leases) = {
            let mut meta = txn.open_table(META)?;
            let number = |name: &str| Ok::<_, Fault>(meta.get(name)?.map(|number| number.value()));
            let format = number("format")?.unwrap_or(FORMAT);
            if format != FORMAT {
                let text = format!(
                    "it has format {format}, this agent knows {FORMAT}: it is from a different version"
                );
                return Err(Fault::Storage(Box::new(redb::Error::Corrupted(text))));
            }
            let cluster = number("cluster")?.unwrap_or_else(|| rand::random_range(1..=i64::MAX));
            let term = number("term")?.unwrap_or(0) + 1;
            for (name, number) in [("format", FORMAT), ("cluster", cluster), ("term", term)] {
                meta.insert(name, number)?;
            }
            txn.open_table(LOG)?;
            let identity = Identity { cluster: cluster.unsigned_abs(), term: term.unsigned_abs() };
            drop(meta);
            (load_head(&txn)?, identity, load_leases(&txn)?)
        };
        txn.commit()?;
        Ok(Self {
            file,
            limits,
            identity,
            writer: Mutex::new(head),
            leases: Mutex::new(leases),
            lease_added: Notify::new(),
            revision: watch::Sender::new(head.revision),
        })
    }

    /// Runs `work`, which may wait for the disk, off the async threads.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let engine = Arc::clone(self);
        // It fails only when the runtime is going down.
        tokio::task::spawn_blocking(move || work(&engine)).await.map_err(|_stopped| Fault::Closing)?
    }

    /// One write transaction: all of `work`, durable, or nothing. What `work` gave, and the revision after it.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, Fault>,
    ) -> Result<(T, i64), Fault> {
        let mut head = lock(&self.writer);
        let outcome = self.write_once(&mut head, work);
        self.file.ended(outcome)
    }

    fn write_once<T>(
        &self,
        head: &mut Head,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, Fault>,
    ) -> Result<(T, i64), Fault> {
        let txn = self.begin_write(head)?;
        let mut batch = Batch::open(&txn, *head)?;
        let value = work(&mut batch)?;
        let Some(outcome) = batch.finish(self.limits)? else {
            txn.abort()?;
            return Ok((value, head.revision));
        };
        txn.commit()?;
        *head = outcome.head;
        let mut leases = self.leases();
        outcome.attachments.into_iter().for_each(|attachment| leases.attach(attachment));
        outcome.ended.into_iter().for_each(|id| leases.remove(id));
        drop(leases);
        self.revision.send_replace(head.revision);
        Ok((value, head.revision))
    }

    /// Begins a write. Where the file had to be opened anew, what its last commit left is read first: that one may have
    /// been made although it seemed to fail.
    fn begin_write(&self, head: &mut Head) -> Result<WriteTransaction, Fault> {
        let txn = self.file.begin_write()?;
        if self.file.was_closed() {
            *self.leases() = load_leases(&txn)?;
            self.lease_added.notify_one();
            *head = load_head(&txn)?;
            self.revision.send_replace(head.revision);
        }
        Ok(txn)
    }

    /// Answers a range request and says at which revision it looked.
    pub(super) fn range(&self, request: &PbRangeRequest) -> Result<(PbRangeResponse, i64), Fault> {
        self.read(|view| Ok((view.range(request)?, view.revision)))
    }

    /// The events from revision `from` on, and the revision to go on from.
    pub(super) fn events(&self, from: i64) -> Result<(Vec<PbEvent>, i64), Fault> {
        self.read(|view| view.events(from))
    }

    /// The revision up to which history is gone.
    pub(super) fn compacted(&self) -> Result<i64, Fault> {
        self.read(|view| Ok(view.compacted))
    }

    /// Bytes in use in the database.
    pub(super) fn size(&self) -> Result<i64, Fault> {
        let mut head = lock(&self.writer);
        let txn = self.begin_write(&mut head)?;
        let bytes = txn.stats()?.allocated_pages() * PAGE;
        txn.abort()?;
        Ok(i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    fn read<T>(
        &self,
        work: impl FnOnce(
            &View<
                '_,
                redb::ReadOnlyTable<&'static [u8], &'static [u8]>,
                redb::ReadOnlyTable<(i64, u32), &'static [u8]>,
            >,
        ) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.file.ended(self.file.begin_read().and_then(|txn| Self::read_once(&txn, work)))
    }

    fn read_once<T>(
        txn: &ReadTransaction,
        work: impl FnOnce(
            &View<
                '_,
                redb::ReadOnlyTable<&'static [u8], &'static [u8]>,
                redb::ReadOnlyTable<(i64, u32), &'static [u8]>,
            >,
        ) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let meta = txn.open_table(META)?;
        let number = |name: &str| Ok::<_, Fault>(meta.get(name)?.map(|number| number.value()));
        let (revision, compacted) = (number("revision")?.unwrap_or(1), number("compacted")?.unwrap_or(0));
        let (kv, log) = (txn.open_table(KV)?, txn.open_table(LOG)?);
        work(&View { kv: &kv, log: &log, revision, compacted })
    }

    /// A new lease, by this number unless it is 0.
    pub(super) fn grant(&self, id: i64, ttl: i64, now: Instant) -> Result<(i64, i64), Fault> {
        if ttl > TTL_MAX {
            return Err(Fault::LeaseTooLong);
        }
        let ttl = ttl.max(1);
        let mut head = lock(&self.writer);
        let id = {
            let leases = self.leases();
            if leases.len() >= LEASES_MAX {
                return Err(Fault::LeaseTooMany);
            }
            let taken = |id: i64| leases.get(id).is_some();
            if id != 0 && taken(id) {
                return Err(Fault::LeaseExists);
            }
            let mut id = id;
            while id == 0 || taken(id) {
                id = rand::random_range(1..=i64::MAX);
            }
            id
        };
        let granted = self.begin_write(&mut head).and_then(|txn| {
            txn.open_table(LEASES)?.insert(id, ttl)?;
            Ok(txn.commit()?)
        });
        self.file.ended(granted)?;
        self.leases().insert(id, ttl, now);
        self.lease_added.notify_one();
        Ok((id, ttl))
    }

    /// Ends a lease whose time has come; one that was renewed meanwhile is left alone.
    pub(super) fn expire(&self, id: i64, now: Instant) -> Result<(), Fault> {
        let due = self.leases().get(id).is_some_and(|lease| lease.deadline <= now);
        if due { self.revoke(id).map(drop) } else { Ok(()) }
    }

    /// Ends a lease and deletes its keys, in one revision.
    pub(super) fn revoke(&self, id: i64) -> Result<i64, Fault> {
        let ((), revision) = self.write(|batch| {
            // Nobody else ends it, or binds a key to it, while this transaction is open.
            let keys = self.leases().get(id).ok_or(Fault::LeaseNotFound)?.keys.clone();
            batch.end_lease(id, keys)
        })?;
        Ok(revision)
    }

    pub(super) fn leases(&self) -> MutexGuard<'_, Leases> {
        lock(&self.leases)
    }

    /// Returns when a lease was added.
    pub(super) async fn lease_added(&self) {
        self.lease_added.notified().await;
    }

    pub(super) fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Follows the latest revision.
    pub(super) fn subscribe(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// The header of an answer that shows `revision`.
    pub(super) fn header(&self, revision: i64) -> PbResponseHeader {
        let Identity { cluster, term } = self.identity;
        PbResponseHeader { cluster_id: cluster, member_id: cluster, revision, raft_term: term }
    }
}

/// The numbers of the file.
fn load_head(txn: &WriteTransaction) -> Result<Head, Fault> {
    let meta = txn.open_table(META)?;
    let number = |name: &str| Ok::<_, Fault>(meta.get(name)?.map(|number| number.value()));
    Ok(Head {
        revision: number("revision")?.unwrap_or(1),
        compacted: number("compacted")?.unwrap_or(0),
        log_bytes: number("log_bytes")?.unwrap_or(0),
    })
}

/// The leases of the file, with the keys bound to them.
fn load_leases(txn: &WriteTransaction) -> Result<Leases, Fault> {
    let (mut leases, now) = (Leases::default(), Instant::now());
    for row in txn.open_table(LEASES)?.iter()? {
        let (id, ttl) = row?;
        leases.insert(id.value(), ttl.value(), now);
    }
    for row in txn.open_table(KV)?.iter()? {
        let (key, record) = row?;
        let kv = decode(key.value(), record.value())?;
        if kv.lease != 0 {
            leases.attach(super::leases::Attachment { key: kv.key, from: 0, to: kv.lease });
        }
    }
    Ok(leases)
}
