//! One write transaction: puts and deletions under one new revision, and the history that they leave.

use etcd_client::{
    EventType,
    proto::{PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue, PbPutRequest, PbPutResponse},
};
use prost::Message;
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    Limits,
    fault::Fault,
    head::Head,
    leases::Attachment,
    record::{KV, KvTable, LEASES, LOG, LogTable, META, Span, encode},
    view::View,
};

/// An open transaction. Nothing of it is seen by others before it is committed.
pub(super) struct Batch<'t> {
    kv: KvTable<'t>,
    log: LogTable<'t>,
    meta: Table<'t, &'static str, i64>,
    leases: Table<'t, i64, i64>,
    head: Head,
    /// The revision that its changes get.
    revision: i64,
    /// Events so far.
    events: u32,
    /// Keys that changed their lease.
    attachments: Vec<Attachment>,
    /// The lease that it ends.
    ended: Option<i64>,
    /// Whether history was cut on request.
    compacted: bool,
}

/// What a transaction leaves to be done in memory, once it is durable.
pub(super) struct Applied {
    pub(super) head: Head,
    pub(super) attachments: Vec<Attachment>,
    pub(super) ended: Option<i64>,
}

impl<'t> Batch<'t> {
    pub(super) fn open(txn: &'t WriteTransaction, head: Head) -> Result<Self, Fault> {
        Ok(Self {
            kv: txn.open_table(KV)?,
            log: txn.open_table(LOG)?,
            meta: txn.open_table(META)?,
            leases: txn.open_table(LEASES)?,
            head,
            revision: head.revision + 1,
            events: 0,
            attachments: Vec::new(),
            ended: None,
            compacted: false,
        })
    }

    /// What it would show if it were committed now.
    pub(super) fn view(&self) -> View<'_, KvTable<'t>, LogTable<'t>> {
        let (revision, compacted) = (self.revision(), self.head.compacted);
        View { kv: &self.kv, log: &self.log, revision, compacted }
    }

    /// The store's revision as this transaction leaves it.
    pub(super) fn revision(&self) -> i64 {
        if self.events > 0 { self.revision } else { self.head.revision }
    }

    /// Writes one key. Its lease must exist; the caller has seen to that.
    pub(super) fn put(&mut self, request: &PbPutRequest) -> Result<PbPutResponse, Fault> {
        if request.key.is_empty() {
            return Err(Fault::NoKey);
        }
        let before = self.view().get(&request.key)?;
        let mut kv = PbKeyValue {
            key: request.key.clone(),
            value: request.value.clone(),
            lease: request.lease,
            create_revision: before.as_ref().map_or(self.revision, |kv| kv.create_revision),
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            mod_revision: self.revision,
        };
        if request.ignore_value || request.ignore_lease {
            let before = before.as_ref().ok_or(Fault::KeyNotFound)?;
            if request.ignore_value {
                kv.value = same_or(&request.value, before.value.clone(), Fault::ValueProvided)?;
            }
            if request.ignore_lease {
                kv.lease = if request.lease == 0 { before.lease } else { return Err(Fault::LeaseProvided) };
            }
        }
        self.kv.insert(kv.key.as_slice(), encode(&kv).as_slice())?;
        self.attach(&kv.key, before.as_ref().map_or(0, |kv| kv.lease), kv.lease);
        self.note(EventType::Put, kv, before.clone())?;
        Ok(PbPutResponse { header: None, prev_kv: before.filter(|_| request.prev_kv) })
    }

    /// Deletes a key or a range of them.
    pub(super) fn delete(&mut self, request: &PbDeleteRequest) -> Result<PbDeleteResponse, Fault> {
        let span = Span::new(&request.key, &request.range_end)?;
        let to_remove = if span.is_single() {
            Vec::from_iter(self.view().get(&span.start)?)
        } else {
            self.view().all(&span)?
        };
        for kv in &to_remove {
            self.kv.remove(kv.key.as_slice())?;
            self.attach(&kv.key, kv.lease, 0);
            let gone =
                PbKeyValue { key: kv.key.clone(), mod_revision: self.revision, ..PbKeyValue::default() };
            self.note(EventType::Delete, gone, Some(kv.clone()))?;
        }
        let deleted = i64::try_from(to_remove.len()).unwrap_or(i64::MAX);
        let prev_kvs = if request.prev_kv { to_remove } else { Vec::new() };
        Ok(PbDeleteResponse { header: None, deleted, prev_kvs })
    }

    /// Ends a lease, and deletes these keys, which are bound to it.
    pub(super) fn end_lease(
        &mut self,
        id: i64,
        keys: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<(), Fault> {
        for key in keys {
            self.delete(&PbDeleteRequest { key, ..PbDeleteRequest::default() })?;
        }
        self.leases.remove(id)?;
        self.ended = Some(id);
        Ok(())
    }

    fn attach(&mut self, key: &[u8], from: i64, to: i64) {
        if from != to {
            self.attachments.push(Attachment { key: key.to_vec(), from, to });
        }
    }

    fn note(&mut self, kind: EventType, kv: PbKeyValue, prev_kv: Option<PbKeyValue>) -> Result<(), Fault> {
        let record = PbEvent { r#type: kind.into(), kv: Some(kv), prev_kv }.encode_to_vec();
        self.log.insert((self.revision, self.events), record.as_slice())?;
        self.events += 1;
        self.head.log_bytes += length(&record);
        Ok(())
    }

    /// Forgets the history up to `revision`.
    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Fault> {
        if revision > self.head.revision {
            return Err(Fault::Future);
        }
        if revision <= self.head.compacted {
            return Err(Fault::Compacted);
        }
        self.compacted = true;
        self.trim(revision, i64::MAX)
    }

    /// Ends it: trims the history and writes the numbers. `None` if nothing was changed.
    pub(super) fn finish(mut self, limits: Limits) -> Result<Option<Applied>, Fault> {
        if self.events > 0 {
            self.head.revision = self.revision;
            let floor = self.revision - limits.history_revisions.max(1);
            self.trim(floor.max(self.head.compacted), limits.history_bytes)?;
        } else if self.ended.is_none() && !self.compacted {
            return Ok(None);
        }
        let Head { revision, compacted, log_bytes } = self.head;
        for (name, number) in [("revision", revision), ("compacted", compacted), ("log_bytes", log_bytes)] {
            self.meta.insert(name, number)?;
        }
        Ok(Some(Applied { head: self.head, attachments: self.attachments, ended: self.ended }))
    }

    /// Drops whole revisions from the old end: all up to `floor`, then as many as it takes to get under `bytes`.
    fn trim(&mut self, mut floor: i64, bytes: i64) -> Result<(), Fault> {
        loop {
            let Some(oldest) = self.log.first()?.map(|(at, _)| at.value().0) else { break };
            if oldest > floor {
                if self.head.log_bytes <= bytes || oldest >= self.revision {
                    break;
                }
                floor = oldest;
            }
            if let Some((_, record)) = self.log.pop_first()? {
                self.head.log_bytes -= length(record.value());
            }
        }
        self.head.compacted = self.head.compacted.max(floor);
        Ok(())
    }
}

fn same_or(given: &[u8], kept: Vec<u8>, fault: Fault) -> Result<Vec<u8>, Fault> {
    if given.is_empty() { Ok(kept) } else { Err(fault) }
}

fn length(record: &[u8]) -> i64 {
    i64::try_from(record.len()).unwrap_or(i64::MAX)
}
