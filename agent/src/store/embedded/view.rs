//! Reads: a range of keys now, or at an older revision, and the history for watches.
//!
//! The table has the present; an older state is the present with the events since then undone.

use std::collections::BTreeMap;

use etcd_client::proto::{PbEvent, PbKeyValue, PbRangeRequest, PbRangeResponse};
use redb::ReadableTable;

use super::{
    fault::Fault,
    record::{Span, decode, decode_event},
};

/// Events of one piece of history, and their bytes, after which a reader pauses; a revision is never cut in two.
const CHUNK_EVENTS: usize = 1000;
const CHUNK_BYTES: usize = 1 << 20;

/// The tables of one transaction, for reading.
pub(super) struct View<'a, K, L> {
    pub(super) kv: &'a K,
    pub(super) log: &'a L,
    /// The latest revision in them.
    pub(super) revision: i64,
    /// The revision up to which history is gone.
    pub(super) compacted: i64,
}

/// What a range read collects.
struct Page {
    limit: usize,
    keys_only: bool,
    count_only: bool,
    count: i64,
    kvs: Vec<PbKeyValue>,
}

impl Page {
    fn full(&self) -> bool {
        self.count_only || self.kvs.len() >= self.limit
    }

    fn take(&mut self, kv: PbKeyValue) {
        self.count += 1;
        if !self.full() {
            let value = if self.keys_only { Vec::new() } else { kv.value };
            self.kvs.push(PbKeyValue { value, ..kv });
        }
    }
}

impl<K, L> View<'_, K, L>
where
    K: ReadableTable<&'static [u8], &'static [u8]>,
    L: ReadableTable<(i64, u32), &'static [u8]>,
{
    /// What one key has now.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<PbKeyValue>, Fault> {
        self.kv.get(key)?.map(|record| decode(key, record.value())).transpose()
    }

    /// All keys of a span, now.
    pub(super) fn all(&self, span: &Span) -> Result<Vec<PbKeyValue>, Fault> {
        let mut page =
            Page { limit: usize::MAX, keys_only: false, count_only: false, count: 0, kvs: Vec::new() };
        self.scan(span, &BTreeMap::new(), &mut page)?;
        Ok(page.kvs)
    }

    /// Answers a range request, without its header.
    pub(super) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Fault> {
        let span = Span::new(&request.key, &request.range_end)?;
        check_range(request)?;
        if request.revision > self.revision {
            return Err(Fault::Future);
        }
        if request.revision > 0 && request.revision < self.compacted {
            return Err(Fault::Compacted);
        }
        let undone = match request.revision {
            1.. if request.revision < self.revision => self.undo(&span, request.revision)?,
            _ => BTreeMap::new(),
        };
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let (keys_only, count_only) = (request.keys_only, request.count_only);
        let mut page = Page { limit, keys_only, count_only, count: 0, kvs: Vec::new() };
        self.scan(&span, &undone, &mut page)?;
        let more = !count_only && i64::try_from(page.kvs.len()).is_ok_and(|sent| sent < page.count);
        Ok(PbRangeResponse { header: None, kvs: page.kvs, more, count: page.count })
    }

    /// Walks the present and what replaces it, in the order of the keys.
    fn scan(
        &self,
        span: &Span,
        undone: &BTreeMap<Vec<u8>, Option<PbKeyValue>>,
        page: &mut Page,
    ) -> Result<(), Fault> {
        let mut older = undone.iter().peekable();
        for row in self.kv.range(span.start.as_slice()..)? {
            let (key, record) = row?;
            let key = key.value();
            if span.is_past(key) {
                break;
            }
            while let Some((_, before)) = older.next_if(|(other, _)| other.as_slice() < key) {
                before.iter().for_each(|kv| page.take(kv.clone()));
            }
            if let Some((_, before)) = older.next_if(|(other, _)| other.as_slice() == key) {
                before.iter().for_each(|kv| page.take(kv.clone()));
            } else if page.full() {
                page.count += 1;
            } else {
                page.take(decode(key, record.value())?);
            }
        }
        older.filter_map(|(_, before)| before.as_ref()).for_each(|kv| page.take(kv.clone()));
        Ok(())
    }

    /// What the keys of the span had at `revision`, for those that changed since.
    fn undo(&self, span: &Span, revision: i64) -> Result<BTreeMap<Vec<u8>, Option<PbKeyValue>>, Fault> {
        let mut before = BTreeMap::new();
        for row in self.log.range((revision + 1, 0)..)?.rev() {
            let (_, record) = row?;
            let event = decode_event(record.value())?;
            if let Some(kv) = event.kv.filter(|kv| span.contains(&kv.key)) {
                before.insert(kv.key, event.prev_kv);
            }
        }
        Ok(before)
    }

    /// The events from revision `from` on, and the revision to go on from.
    pub(super) fn events(&self, from: i64) -> Result<(Vec<PbEvent>, i64), Fault> {
        if from <= self.compacted {
            return Err(Fault::Compacted);
        }
        let (mut events, mut bytes, mut last) = (Vec::new(), 0, from);
        for row in self.log.range((from, 0)..)? {
            let (at, record) = row?;
            let (revision, _) = at.value();
            if revision != last && (events.len() >= CHUNK_EVENTS || bytes >= CHUNK_BYTES) {
                return Ok((events, revision));
            }
            last = revision;
            bytes += record.value().len();
            events.push(decode_event(record.value())?);
        }
        Ok((events, self.revision.max(from - 1) + 1))
    }
}

fn check_range(request: &PbRangeRequest) -> Result<(), Fault> {
    // 0 is "none" and 1 "ascending", both by key.
    if request.sort_order > 1 || request.sort_order == 1 && request.sort_target != 0 {
        return Err(Fault::Unsupported("sorting other than by ascending key"));
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        return Err(Fault::Unsupported("filtering by revision"));
    }
    Ok(())
}
