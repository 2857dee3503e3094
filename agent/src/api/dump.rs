//! `store dump`: every key of both stores, its value as JSON.

use ovnet_proto::v1;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::service::{RecordKind, StoreRecord};

/// The records, in their order.
pub(super) fn stream(records: Vec<StoreRecord>) -> ReceiverStream<Result<v1::StoreEntry, Status>> {
    let (out, stream) = mpsc::channel(64);
    // Ends with its listener: sending fails then. Each is described in its turn, so that others have theirs in between.
    tokio::spawn(async move {
        for record in records {
            if out.send(Ok(describe(record))).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

fn describe(record: StoreRecord) -> v1::StoreEntry {
    v1::StoreEntry {
        json: json(record.kind(), &record.value),
        key: record.key,
        mod_revision: record.mod_revision,
        store: record.scope.to_string(),
    }
}

/// The value as JSON: a record by its message, anything else as text.
fn json(kind: RecordKind, value: &[u8]) -> String {
    fn message<M: Message + Default + serde::Serialize>(value: &[u8]) -> Option<String> {
        serde_json::to_string(&M::decode(value).ok()?).ok()
    }
    let record = match kind {
        RecordKind::Network => message::<v1::Network>(value),
        RecordKind::Endpoint => message::<v1::Endpoint>(value),
        RecordKind::Member => message::<v1::Member>(value),
        RecordKind::Node => message::<v1::Node>(value),
        RecordKind::AddressOwner => message::<v1::AddressOwner>(value),
        RecordKind::Sandbox => message::<v1::Sandbox>(value),
        RecordKind::Text => None,
    };
    record.unwrap_or_else(|| serde_json::Value::from(String::from_utf8_lossy(value)).to_string())
}
