//! What is done to a unit while something about it cannot be read: what is missing is added, nothing is removed.

use crate::plan::{
    op::Op,
    state::{Netns, State},
};

/// The steps that only add to what was seen.
pub(super) fn without_removals(ops: Vec<Op>, seen: &State) -> Vec<Op> {
    ops.into_iter().filter(|op| !removes(op, seen)).collect()
}

fn removes(op: &Op, seen: &State) -> bool {
    let has_table = |netns: &Netns| seen.netns.get(netns).is_some_and(|state| state.table.is_some());
    match op {
        Op::SetTable(netns, _) => has_table(netns),
        Op::RemoveNetns(_)
        | Op::RemoveLink(_)
        | Op::SetPort(_, None)
        | Op::SetUp(_, false)
        | Op::RemoveAddress(..)
        | Op::RemoveRoute(..)
        | Op::RemoveNeighbour(..)
        | Op::RemoveTunnel(..)
        | Op::RemoveFlood(..)
        | Op::RemoveStation(..)
        | Op::ChangePorts(..)
        | Op::RemoveTable(_)
        | Op::RemoveResolver(_)
        | Op::SetOpenings(..) => true,
        Op::AddNetns(..)
        | Op::AddLink(..)
        | Op::AddVeth(..)
        | Op::SetMac(..)
        | Op::SetMtu(..)
        | Op::SetPort(_, Some(_))
        | Op::SetUp(_, true)
        | Op::AddAddress(..)
        | Op::SetRoute(..)
        | Op::SetNeighbour(..)
        | Op::SetTunnel(..)
        | Op::AddFlood(..)
        | Op::SetStation(..)
        | Op::SetSysctl(..)
        | Op::SetResolver(..) => false,
    }
}
