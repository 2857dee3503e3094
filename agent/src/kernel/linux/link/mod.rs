//! Links: how they are made, found, read, awaited and removed.

pub(super) mod conf;
pub(super) mod contents;
pub(super) mod create;
pub(super) mod find;
pub(super) mod lower;
pub(super) mod operational;
pub(super) mod removal;
pub(super) mod row;
pub(super) mod upper;
