//! The embedded store against the plainest possible one: a copy of the whole state for every revision.

use std::collections::BTreeMap;

use etcd_client::{
    EventType,
    proto::{
        PbDeleteRequest, PbKeyValue, PbPutRequest, PbRangeRequest, PbTxnOpRequest, PbTxnRequest,
        PbTxnRequestOp,
    },
};
use proptest::prelude::*;

use super::{Limits, engine::Engine, fault::Fault, txn};

type State = BTreeMap<Vec<u8>, PbKeyValue>;

/// What a transaction does, in turn.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    DeleteRange(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        1 => (0..8u8).prop_map(Step::Delete),
        1 => (0..8u8, 0..9u8).prop_map(|(from, to)| Step::DeleteRange(from, to)),
    ]
}

fn key(number: u8) -> Vec<u8> {
    vec![b'k', number]
}

fn op(step: &Step) -> PbTxnOpRequest {
    let delete = |from, range_end| {
        PbTxnOpRequest::RequestDeleteRange(PbDeleteRequest { key: key(from), range_end, prev_kv: false })
    };
    match *step {
        Step::Put(at, value) => PbTxnOpRequest::RequestPut(PbPutRequest {
            key: key(at),
            value: vec![value],
            ..PbPutRequest::default()
        }),
        Step::Delete(at) => delete(at, Vec::new()),
        Step::DeleteRange(from, to) => delete(from, key(to)),
    }
}

/// The state after a step of the transaction that makes `revision`; whether it changed anything.
fn apply(state: &mut State, step: &Step, revision: i64) -> bool {
    match *step {
        Step::Put(at, value) => {
            let before = state.get(&key(at));
            let kv = PbKeyValue {
                key: key(at),
                value: vec![value],
                create_revision: before.map_or(revision, |kv| kv.create_revision),
                version: before.map_or(0, |kv| kv.version) + 1,
                mod_revision: revision,
                lease: 0,
            };
            state.insert(key(at), kv);
            true
        }
        Step::Delete(at) => state.remove(&key(at)).is_some(),
        Step::DeleteRange(from, to) => {
            let before = state.len();
            state.retain(|name, _| *name < key(from) || *name >= key(to));
            state.len() != before
        }
    }
}

fn range(engine: &Engine, revision: i64, limit: i64) -> Result<(Vec<PbKeyValue>, bool, i64), Fault> {
    let request =
        PbRangeRequest { key: vec![0], range_end: vec![0], revision, limit, ..PbRangeRequest::default() };
    engine.range(&request).map(|(answer, _)| (answer.kvs, answer.more, answer.count))
}

/// All events from a revision on, piece by piece, applied to the state before it.
fn replay(engine: &Engine, from: i64, mut state: State) -> Result<State, Fault> {
    let (mut next, mut last) = (from, from);
    loop {
        let (events, reached) = engine.events(next)?;
        assert!(reached > next || events.is_empty());
        for event in events {
            let kv = event.kv.unwrap();
            assert!(kv.mod_revision >= last && kv.mod_revision < reached);
            last = kv.mod_revision;
            assert_eq!(event.prev_kv, state.get(&kv.key).cloned());
            if event.r#type == i32::from(EventType::Delete) {
                state.remove(&kv.key);
            } else {
                state.insert(kv.key.clone(), kv);
            }
        }
        if reached > engine.revision() {
            return Ok(state);
        }
        next = reached;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_kept_revision_reads_as_it_was_and_replays_to_the_present(
        transactions in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..25),
        history_revisions in 1i64..30,
    ) {
        let limits = Limits { history_revisions, ..Limits::default() };
        let engine = Engine::open(None, limits).unwrap();
        let mut states = BTreeMap::from([(1i64, State::new())]);
        for steps in &transactions {
            let ops = steps.iter().map(|step| PbTxnRequestOp { request: Some(op(step)) }).collect();
            let request = PbTxnRequest { success: ops, ..PbTxnRequest::default() };
            if txn::check(&request).is_err() {
                continue;
            }
            let ((), revision) = engine.write(|batch| txn::run(batch, &request, |_| false).map(drop)).unwrap();
            let (last, mut state) = states.last_key_value().map(|(at, state)| (*at, state.clone())).unwrap();
            let mut changed = false;
            for step in steps {
                changed |= apply(&mut state, step, last + 1);
            }
            prop_assert_eq!(revision, last + i64::from(changed));
            states.insert(revision, state);
        }
        let latest = engine.revision();
        let present = &states[&latest];
        let compacted = engine.compacted().unwrap();
        prop_assert!(compacted >= latest - history_revisions && compacted <= latest);
        for (&revision, state) in &states {
            if revision < compacted {
                prop_assert!(matches!(range(&engine, revision, 0), Err(Fault::Compacted)));
                prop_assert!(matches!(engine.events(revision), Err(Fault::Compacted)));
                continue;
            }
            let all: Vec<_> = state.values().cloned().collect();
            let count = i64::try_from(all.len()).unwrap();
            prop_assert_eq!(range(&engine, revision, 0).unwrap(), (all.clone(), false, count));
            let two = all.iter().take(2).cloned().collect();
            prop_assert_eq!(range(&engine, revision, 2).unwrap(), (two, count > 2, count));
            prop_assert_eq!(&replay(&engine, revision + 1, state.clone()).unwrap(), present);
        }
        prop_assert!(matches!(range(&engine, latest + 1, 0), Err(Fault::Future)));
    }
}
