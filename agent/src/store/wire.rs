//! Our words in etcd-client's, and back.

use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

use super::{Commit, Entry, Guard, GuardRefusal, Key, KeyRange, Write, outcome::Found};

/// The transaction: all writes if all guards hold, else a look at every guard's key.
pub(super) fn txn(commit: &Commit) -> Txn {
    let compares: Vec<Compare> = commit.guards.iter().map(compare).collect();
    let writes: Vec<TxnOp> = commit.writes.iter().map(write).collect();
    let looks: Vec<TxnOp> = commit.guards.iter().map(|guard| look(guard.key())).collect();
    Txn::new().when(compares).and_then(writes).or_else(looks)
}

/// A look, at one revision, at everything that the commit writes.
pub(super) fn review(writes: &[Write]) -> Txn {
    let looks: Vec<TxnOp> = writes
        .iter()
        .map(|write| match write {
            Write::Put(key, _) | Write::PutLeased(key, _, _) | Write::Delete(key) => look(key),
            Write::DeleteRange(range) => TxnOp::get(
                range.start.as_str(),
                Some(GetOptions::new().with_range(range.end.as_str()).with_count_only()),
            ),
        })
        .collect();
    Txn::new().and_then(looks)
}

/// What [`review`] saw, write by write.
pub(super) fn reviewed(writes: &[Write], response: &TxnResponse) -> Vec<Found> {
    let seen = |(write, response): (&Write, TxnOpResponse)| {
        let TxnOpResponse::Get(mut found) = response else { return None };
        Some(match write {
            Write::DeleteRange(_) => Found::Count(found.count()),
            Write::Put(..) | Write::PutLeased(..) | Write::Delete(_) => {
                Found::Key(entries(&mut found).into_iter().next())
            }
        })
    };
    writes.iter().zip(response.op_responses()).filter_map(seen).collect()
}

/// The guards that did not hold, from the looks of a transaction that was refused.
pub(super) fn refusals(guards: &[Guard], response: &TxnResponse) -> Vec<GuardRefusal> {
    let refusal = |(guard, response): (&Guard, TxnOpResponse)| {
        let TxnOpResponse::Get(mut found) = response else { return None };
        let found = entries(&mut found).into_iter().next();
        (!guard.holds(found.as_ref())).then(|| GuardRefusal { guard: guard.clone(), found })
    };
    guards.iter().zip(response.op_responses()).filter_map(refusal).collect()
}

/// The entries of an answer. A key that is not text is foreign.
pub(super) fn entries(response: &mut GetResponse) -> Vec<Entry> {
    response.take_kvs().into_iter().filter_map(entry).collect()
}

/// An entry; `None` if its key is not text.
pub(super) fn entry(kv: KeyValue) -> Option<Entry> {
    let (mod_revision, lease) = (kv.mod_revision(), kv.lease());
    let (key, value) = kv.into_key_value();
    match String::from_utf8(key) {
        Ok(key) => Some(Entry { key, value: Bytes::from(value), mod_revision, lease }),
        Err(error) => {
            let key = error.utf8_error();
            tracing::warn!(mod_revision, %key, "ignoring a foreign key that is not text");
            None
        }
    }
}

/// The options of a range read.
pub(super) fn ranged(range: &KeyRange) -> GetOptions {
    GetOptions::new().with_range(range.end.as_str())
}

fn compare(guard: &Guard) -> Compare {
    match guard {
        Guard::Absent(key) => Compare::create_revision(key.to_string(), CompareOp::Equal, 0),
        Guard::Present(key) => Compare::create_revision(key.to_string(), CompareOp::Greater, 0),
        Guard::Unchanged(key, revision) => {
            Compare::mod_revision(key.to_string(), CompareOp::Equal, *revision)
        }
        Guard::Is(key, value) => Compare::value(key.to_string(), CompareOp::Equal, value.to_vec()),
    }
}

fn write(write: &Write) -> TxnOp {
    match write {
        Write::Put(key, value) => TxnOp::put(key.to_string(), value.to_vec(), None),
        Write::PutLeased(key, value, lease) => {
            TxnOp::put(key.to_string(), value.to_vec(), Some(PutOptions::new().with_lease(*lease)))
        }
        Write::Delete(key) => TxnOp::delete(key.to_string(), None),
        Write::DeleteRange(range) => {
            TxnOp::delete(range.start.as_str(), Some(DeleteOptions::new().with_range(range.end.as_str())))
        }
    }
}

fn look(key: &Key) -> TxnOp {
    TxnOp::get(key.to_string(), None)
}
