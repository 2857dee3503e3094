//! Plans for a unit in doubt, while a record about it cannot be read: missing objects are added, nothing is
//! removed.

use crate::plan::{
    op::{LinkOp, Op, SettingOp},
    state::{Netns, State},
};

/// The steps that only add to the observed state.
pub(super) fn without_removals(ops: Vec<Op>, observed: &State) -> Vec<Op> {
    ops.into_iter().filter(|op| !(op.removes() || replaces(op, observed))).collect()
}

/// Whether a step changes something that exists in a way that may remove a part of it.
fn replaces(op: &Op, observed: &State) -> bool {
    let has_table = |netns: &Netns| observed.netns.get(netns).is_some_and(|state| state.table.is_some());
    matches!(
        op,
        Op::Link(_, LinkOp::SetPort(None) | LinkOp::SetUp(false))
            | Op::Setting(_, SettingOp::ChangePorts(_) | SettingOp::SetForwardAccepts(..))
    ) || matches!(op, Op::Setting(netns, SettingOp::SetTable(_)) if has_table(netns))
}
