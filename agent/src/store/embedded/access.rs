//! What a client sees and may change: this node's own agent everything, a client over the network only the keys that all
//! nodes share.
//!
//! To a client over the network other keys do not exist: it reads and watches the part of its range that is served. A
//! change that reaches beyond that part is refused as a whole, as an etcd with roles refuses it.

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest,
};

use super::fault::Fault;
use crate::store::keys::GLOBAL;

/// The first key behind all that start with [`GLOBAL`].
const END: &[u8] = b"/ovnet/v10";
/// etcd's "no end", and for a start "from the very first key".
const OPEN: &[u8] = &[0];

/// Which keys a client has to do with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Every key.
    All,
    /// Those under [`GLOBAL`].
    Served,
}

impl Access {
    /// Whether the client sees this key.
    pub(super) fn shows(self, key: &[u8]) -> bool {
        self == Self::All || is_served(key)
    }

    /// Leave of a range what the client sees. What has no key stays as it is, and is refused later.
    pub(super) fn clip(self, key: &mut Vec<u8>, range_end: &mut Vec<u8>) {
        if self == Self::All || key.is_empty() {
            return;
        }
        if range_end.is_empty() {
            if !is_served(key) {
                // An end before the start: nothing.
                *key = END.to_vec();
                *range_end = GLOBAL.into();
            }
            return;
        }
        if key == OPEN || key.as_slice() < GLOBAL.as_bytes() {
            *key = GLOBAL.into();
        }
        if range_end == OPEN || range_end.as_slice() > END {
            *range_end = END.to_vec();
        }
    }

    /// A range request of this client.
    pub(super) fn read(self, request: &mut PbRangeRequest) {
        self.clip(&mut request.key, &mut request.range_end);
    }

    /// Whether the client may put this.
    pub(super) fn put(self, request: &PbPutRequest) -> Result<(), Fault> {
        self.change(&request.key, &[])
    }

    /// Whether the client may delete this.
    pub(super) fn delete(self, request: &PbDeleteRequest) -> Result<(), Fault> {
        self.change(&request.key, &request.range_end)
    }

    /// A transaction of this client.
    pub(super) fn txn(self, request: &mut PbTxnRequest) -> Result<(), Fault> {
        for PbCompare { key, range_end, .. } in &request.compare {
            self.change(key, range_end)?;
        }
        for op in request.success.iter_mut().chain(&mut request.failure) {
            match &mut op.request {
                Some(PbTxnOpRequest::RequestRange(range)) => self.read(range),
                Some(PbTxnOpRequest::RequestPut(put)) => self.put(put)?,
                Some(PbTxnOpRequest::RequestDeleteRange(delete)) => self.delete(delete)?,
                // Refused whoever asks.
                Some(PbTxnOpRequest::RequestTxn(_)) | None => {}
            }
        }
        Ok(())
    }

    fn change(self, key: &[u8], range_end: &[u8]) -> Result<(), Fault> {
        let within = match range_end {
            [] => key.is_empty() || is_served(key),
            end => key >= GLOBAL.as_bytes() && end != OPEN && end <= END,
        };
        if self == Self::All || within { Ok(()) } else { Err(Fault::NotServed) }
    }
}

fn is_served(key: &[u8]) -> bool {
    key.starts_with(GLOBAL.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::embedded::record::Span;

    /// Keys and ends around what is served.
    fn near() -> impl Strategy<Value = Vec<u8>> {
        let fixed =
            ["\0", "/", "/ovnet", "/ovnet/", "/ovnet/local/v1/x", "/ovnet/v1", "/ovnet/v1/", "/ovnet/v1/a"]
                .into_iter()
                .chain(["/ovnet/v1/~", "/ovnet/v10", "/ovnet/v2", "a"]);
        let fixed: Vec<Vec<u8>> = fixed.map(|text| text.as_bytes().to_vec()).collect();
        prop_oneof![proptest::sample::select(fixed), "/ovnet/v[01]/[a-c]{0,2}".prop_map(String::into_bytes)]
    }

    proptest! {
        #[test]
        fn a_clipped_range_has_of_the_whole_one_exactly_what_is_served(
            key in near(),
            end in proptest::option::of(near()),
            at in near(),
        ) {
            let end = end.unwrap_or_default();
            let whole = Span::new(&key, &end).unwrap();
            let (mut from, mut to) = (key.clone(), end.clone());
            Access::Served.clip(&mut from, &mut to);
            let part = Span::new(&from, &to).unwrap();
            prop_assert_eq!(part.contains(&at), whole.contains(&at) && is_served(&at));
            let (mut from, mut to) = (key.clone(), end.clone());
            Access::All.clip(&mut from, &mut to);
            prop_assert_eq!((from, to), (key, end));
        }

        #[test]
        fn a_deletion_that_is_let_through_reaches_nothing_else(
            key in near(),
            end in proptest::option::of(near()),
            at in near(),
        ) {
            let end = end.unwrap_or_default();
            let reached = Span::new(&key, &end).unwrap().contains(&at) && !is_served(&at);
            let request = PbDeleteRequest { key, range_end: end, prev_kv: false };
            prop_assert!(!(reached && Access::Served.delete(&request).is_ok()));
            prop_assert!(Access::All.delete(&request).is_ok());
        }
    }
}
