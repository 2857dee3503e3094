//! What lies in the database: the tables and the form of their rows.

use etcd_client::proto::{PbEvent, PbKeyValue};
use prost::Message;
use redb::TableDefinition;

use super::fault::Fault;

/// Key to its latest record: the key-value message without the key.
pub(super) const KV: TableDefinition<&[u8], &[u8]> = TableDefinition::new("kv");
/// Revision and place in it to an event, with what the key had before: the history.
pub(super) const LOG: TableDefinition<(i64, u32), &[u8]> = TableDefinition::new("log");
/// Lease to its time to live, in seconds.
pub(super) const LEASES: TableDefinition<i64, i64> = TableDefinition::new("leases");
/// The few numbers of the whole store.
pub(super) const META: TableDefinition<&str, i64> = TableDefinition::new("meta");

/// [`KV`] in a transaction that may write.
pub(super) type KvTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;
/// [`LOG`] in a transaction that may write.
pub(super) type LogTable<'t> = redb::Table<'t, (i64, u32), &'static [u8]>;

/// The form of the rows. A file of another one is not touched.
pub(super) const FORMAT: i64 = 1;

pub(super) fn encode(kv: &PbKeyValue) -> Vec<u8> {
    let bare = PbKeyValue { key: Vec::new(), ..kv.clone() };
    bare.encode_to_vec()
}

pub(super) fn decode(key: &[u8], record: &[u8]) -> Result<PbKeyValue, Fault> {
    let mut kv = PbKeyValue::decode(record)?;
    kv.key = key.to_vec();
    Ok(kv)
}

pub(super) fn decode_event(record: &[u8]) -> Result<PbEvent, Fault> {
    Ok(PbEvent::decode(record)?)
}

/// A range of keys as etcd's requests give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Vec<u8>,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Only this key.
    Single,
    /// Everything from the start on.
    Open,
    /// Up to and without this key.
    Before(Vec<u8>),
}

impl Span {
    /// No end: the one key. A zero byte: no end at all.
    pub(super) fn new(key: &[u8], range_end: &[u8]) -> Result<Self, Fault> {
        if key.is_empty() {
            return Err(Fault::NoKey);
        }
        let end = match range_end {
            [] => End::Single,
            [0] => End::Open,
            end => End::Before(end.to_vec()),
        };
        // A zero byte as the start means the first key there is.
        let start = if key == [0] && end != End::Single { Vec::new() } else { key.to_vec() };
        Ok(Self { start, end })
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Open => key >= self.start.as_slice(),
            End::Before(end) => key >= self.start.as_slice() && key < end.as_slice(),
        }
    }

    /// Whether no key at or after this one can be in it.
    pub(super) fn is_past(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key > self.start.as_slice(),
            End::Open => false,
            End::Before(end) => key >= end.as_slice(),
        }
    }

    pub(super) fn is_single(&self) -> bool {
        self.end == End::Single
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_span_are_read_as_etcd_reads_them() {
        let span = |key: &[u8], end: &[u8]| Span::new(key, end).unwrap();
        assert!(span(b"a", b"").contains(b"a") && !span(b"a", b"").contains(b"aa"));
        assert!(span(b"a", b"c").contains(b"bz") && !span(b"a", b"c").contains(b"c"));
        assert!(span(b"b", b"\0").contains(b"zzz") && !span(b"b", b"\0").contains(b"a"));
        assert!(span(b"\0", b"\0").contains(b"\0") && span(b"\0", b"\0").contains(b"\xff"));
        assert!(!span(b"c", b"a").contains(b"b"), "an end before the start: nothing");
        assert!(matches!(Span::new(b"", b""), Err(Fault::NoKey)));
    }

    #[test]
    fn a_record_reads_back_with_its_key() {
        let kv = PbKeyValue {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: 9,
        };
        assert_eq!(decode(b"k", &encode(&kv)).unwrap(), kv);
    }
}
