use std::sync::Arc;

use super::*;
use crate::model::testing::ME;

#[test]
fn what_came_of_units_that_are_gone_is_forgotten_in_the_end() {
    let world = World::new(ME);
    let gone = Unit::Sandbox(SandboxId::from_bytes([1; 32]));
    let at = |local| Revisions { global: 1, local };
    for (unit, local) in [(Unit::Host, 1), (gone, 5)] {
        world.record(unit, Outcome { at: at(local), failures: Vec::new() });
    }
    world.forget_outcomes(at(4));
    assert!(world.outcome(gone).is_some(), "somebody may still wait for it");
    world.forget_outcomes(at(5));
    assert!(world.outcome(gone).is_none());
    assert!(world.outcome(Unit::Host).is_some());
}

#[test]
fn two_feeders_never_take_back_what_the_other_has_told() {
    const ROUNDS: i64 = 200_000;
    let world = Arc::new(World::new(ME));
    for source in [Source::Global, Source::Local] {
        world.feed_snapshot(source, 1, Vec::new(), &BTreeSet::new());
    }
    let feeders = [Source::Global, Source::Local].map(|source| {
        let world = Arc::clone(&world);
        std::thread::spawn(move || {
            for revision in 2..=ROUNDS {
                world.feed(source, revision, Vec::new());
                let told = world.revisions.borrow().unwrap_or_default();
                let own = if source == Source::Global { told.global } else { told.local };
                assert!(own >= revision, "{source:?} was at {revision}, but {told:?} was told");
            }
        })
    });
    feeders.into_iter().for_each(|feeder| feeder.join().unwrap());
}
