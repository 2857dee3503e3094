//! Transactions: comparisons, then one of two lists of operations, in order.

use std::collections::BTreeSet;

use etcd_client::proto::{
    PbCompare, PbKeyValue, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest,
    PbTxnRequestOp, PbTxnResponse,
};

use super::{batch::Batch, fault::Fault, record::Span};

/// Operations in either list, and comparisons: etcd's default.
const OPS_MAX: usize = 128;

/// Refuses what no store should be asked to do, before anything is written.
pub(super) fn check(request: &PbTxnRequest) -> Result<(), Fault> {
    let longest = [request.compare.len(), request.success.len(), request.failure.len()].into_iter().max();
    if longest > Some(OPS_MAX) {
        return Err(Fault::TooManyOps);
    }
    check_list(&request.success)?;
    check_list(&request.failure)
}

/// No key may be written twice in one revision: there would be no telling which came last.
fn check_list(ops: &[PbTxnRequestOp]) -> Result<(), Fault> {
    let mut puts = BTreeSet::new();
    let mut spans = Vec::new();
    for op in ops {
        match &op.request {
            Some(PbTxnOpRequest::RequestPut(put)) => {
                if !puts.insert(put.key.as_slice()) {
                    return Err(Fault::DuplicateKey);
                }
            }
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                spans.push(Span::new(&delete.key, &delete.range_end)?);
            }
            Some(PbTxnOpRequest::RequestTxn(_)) => return Err(Fault::Unsupported("nested transactions")),
            Some(PbTxnOpRequest::RequestRange(_)) | None => {}
        }
    }
    let both = |key: &&[u8]| spans.iter().any(|span| span.contains(key));
    if puts.iter().any(both) { Err(Fault::DuplicateKey) } else { Ok(()) }
}

/// Carries it out. `has_lease` knows which leases exist.
pub(super) fn run(
    batch: &mut Batch<'_>,
    request: &PbTxnRequest,
    has_lease: impl Fn(i64) -> bool,
) -> Result<PbTxnResponse, Fault> {
    let mut succeeded = true;
    for compare in &request.compare {
        succeeded = succeeded && holds(batch, compare)?;
    }
    let ops = if succeeded { &request.success } else { &request.failure };
    let responses = ops.iter().map(|op| run_op(batch, op, &has_lease)).collect::<Result<Vec<_>, _>>()?;
    Ok(PbTxnResponse { header: None, succeeded, responses })
}

fn run_op(
    batch: &mut Batch<'_>,
    op: &PbTxnRequestOp,
    has_lease: impl Fn(i64) -> bool,
) -> Result<PbResponseOp, Fault> {
    let response = match &op.request {
        Some(PbTxnOpRequest::RequestRange(range)) => {
            PbTxnOpResponse::ResponseRange(batch.view().range(range)?)
        }
        Some(PbTxnOpRequest::RequestPut(put)) if put.lease != 0 && !has_lease(put.lease) => {
            return Err(Fault::LeaseNotFound);
        }
        Some(PbTxnOpRequest::RequestPut(put)) => PbTxnOpResponse::ResponsePut(batch.put(put)?),
        Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
            PbTxnOpResponse::ResponseDeleteRange(batch.delete(delete)?)
        }
        Some(PbTxnOpRequest::RequestTxn(_)) => return Err(Fault::Unsupported("nested transactions")),
        None => return Ok(PbResponseOp { response: None }),
    };
    Ok(PbResponseOp { response: Some(response) })
}

fn holds(batch: &Batch<'_>, compare: &PbCompare) -> Result<bool, Fault> {
    let span = Span::new(&compare.key, &compare.range_end)?;
    let found = if span.is_single() {
        Vec::from_iter(batch.view().get(&span.start)?)
    } else {
        batch.view().all(&span)?
    };
    if !found.is_empty() {
        return Ok(found.iter().all(|kv| agrees(compare, kv)));
    }
    // A missing key has the numbers 0, and no value that could be compared.
    let valued = matches!(compare.target_union, Some(PbTargetUnion::Value(_)));
    Ok(!valued && agrees(compare, &PbKeyValue::default()))
}

fn agrees(compare: &PbCompare, kv: &PbKeyValue) -> bool {
    let order = match &compare.target_union {
        Some(PbTargetUnion::Version(number)) => kv.version.cmp(number),
        Some(PbTargetUnion::CreateRevision(number)) => kv.create_revision.cmp(number),
        Some(PbTargetUnion::ModRevision(number)) => kv.mod_revision.cmp(number),
        Some(PbTargetUnion::Lease(number)) => kv.lease.cmp(number),
        Some(PbTargetUnion::Value(value)) => kv.value.cmp(value),
        // Left out on the wire is the number 0; which one is told by the target.
        None => match compare.target {
            0 => kv.version.cmp(&0),
            1 => kv.create_revision.cmp(&0),
            2 => kv.mod_revision.cmp(&0),
            3 => kv.value.as_slice().cmp(&[]),
            _ => kv.lease.cmp(&0),
        },
    };
    match compare.result {
        0 => order.is_eq(),
        1 => order.is_gt(),
        2 => order.is_lt(),
        _ => order.is_ne(),
    }
}
