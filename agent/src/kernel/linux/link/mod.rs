//! Links: how they are made, found, read, awaited and removed.

pub(super) mod birth;
pub(super) mod find;
pub(super) mod hanging;
pub(super) mod link_row;
pub(super) mod lower;
pub(super) mod removal;
pub(super) mod settle;
pub(super) mod stacked;
