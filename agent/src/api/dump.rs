//! `store dump`: every key of both stores, its value as JSON.

use ovnet_proto::v1;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    service::ServiceError,
    store::{Entry, Key, KeyRange, Store},
};

/// Every key, the cluster's first.
pub(super) async fn stream(
    global: &Store,
    local: &Store,
) -> Result<ReceiverStream<Result<v1::StoreEntry, Status>>, ServiceError> {
    let mut entries: Vec<(&str, Entry)> = Vec::new();
    for (name, store, range) in
        [("global", global, KeyRange::everything()), ("local", local, KeyRange::local())]
    {
        entries.extend(store.list(&range).await?.entries.into_iter().map(|entry| (name, entry)));
    }
    let (out, stream) = mpsc::channel(64);
    // Ends with its listener: sending fails then. Each is described in its turn, so that others have theirs in between.
    tokio::spawn(async move {
        for (name, entry) in entries {
            if out.send(Ok(describe(name, &entry))).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(stream))
}

fn describe(store: &str, entry: &Entry) -> v1::StoreEntry {
    v1::StoreEntry {
        key: entry.key.clone(),
        json: json(&entry.key, &entry.value),
        mod_revision: entry.mod_revision,
        store: store.to_owned(),
    }
}

/// The value as JSON: a record by its message, anything else as text.
fn json(key: &str, value: &[u8]) -> String {
    fn message<M: Message + Default + serde::Serialize>(value: &[u8]) -> Option<String> {
        serde_json::to_string(&M::decode(value).ok()?).ok()
    }
    let record = match key.parse::<Key>().as_ref().map(Key::bare) {
        Ok(Key::Network(_)) => message::<v1::Network>(value),
        Ok(Key::Endpoint(..)) => message::<v1::Endpoint>(value),
        Ok(Key::Member(..)) => message::<v1::Member>(value),
        Ok(Key::Node(_)) => message::<v1::Node>(value),
        Ok(Key::Address(..) | Key::Mac(..)) => message::<v1::AddressOwner>(value),
        Ok(Key::Sandbox(_)) => message::<v1::Sandbox>(value),
        Ok(
            Key::NetworkName(_)
            | Key::Vni(_)
            | Key::EndpointName(..)
            | Key::Alive(_)
            | Key::Pool(_)
            | Key::Here(_)
            | Key::Leg(_)
            | Key::Sysctl(_)
            | Key::Identity(_),
        )
        | Err(_) => None,
    };
    record.unwrap_or_else(|| serde_json::Value::from(String::from_utf8_lossy(value)).to_string())
}
