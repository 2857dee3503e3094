//! What is done to a unit while something about it cannot be read: what is missing is added, nothing is removed.

use crate::plan::{
    op::Op,
    state::{Netns, State},
};

/// The steps that only add to what was seen.
pub(super) fn without_removals(ops: Vec<Op>, seen: &State) -> Vec<Op> {
    ops.into_iter().filter(|op| !(op.removes() || replaces(op, seen))).collect()
}

/// Whether something may go that was there, for all that comes in its place.
fn replaces(op: &Op, seen: &State) -> bool {
    let has_table = |netns: &Netns| seen.netns.get(netns).is_some_and(|state| state.table.is_some());
    matches!(op, Op::SetPort(_, None) | Op::SetUp(_, false) | Op::ChangePorts(..) | Op::SetOpenings(..))
        || matches!(op, Op::SetTable(netns, _) if has_table(netns))
}
