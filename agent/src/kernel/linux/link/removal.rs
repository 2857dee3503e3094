//! Removing links, many at the price of one.
//!
//! A removal waits for the kernel's readers (some 13 ms), so that many go as one group in one message.

use nix::errno::Errno;

use super::row::parse;
use crate::{
    kernel::linux::{netns::namespace::Namespace, refusal::Refusal, rtnl::links},
    model::IfName,
};

/// Remove the links with these names, each with its outcome. The plan names only links of ours; even if it
/// were wrong, no foreign link is removed.
pub(in crate::kernel::linux) fn remove_named(
    namespace: &mut Namespace,
    names: &[IfName],
) -> Vec<Result<(), Refusal>> {
    let found: Vec<Result<u32, Refusal>> = names.iter().map(|name| ours(namespace, *name)).collect();
    let indexes: Vec<u32> = found.iter().filter_map(|found| found.as_ref().ok().copied()).collect();
    let mut removed = remove(namespace, &indexes).into_iter();
    found.into_iter().map(|found| found.and_then(|_index| removed.next().unwrap_or(Ok(())))).collect()
}

/// Remove the links with these indexes, each with its outcome; with one that is gone already, all is well.
pub(in crate::kernel::linux) fn remove(
    namespace: &mut Namespace,
    indexes: &[u32],
) -> Vec<Result<(), Refusal>> {
    namespace.forget_links();
    if indexes.len() > 1 {
        // Those that cannot be put into the group are left for the second attempt.
        let _grouped = namespace.rtnl.submit(indexes.iter().copied().map(links::set_group).collect());
        let _removed = namespace.rtnl.apply(links::remove_group());
    }
    let outcomes = namespace.rtnl.submit(indexes.iter().copied().map(links::remove).collect());
    let gone = |refusal: &Refusal| !refusal.is_absence();
    outcomes.into_iter().map(|outcome| outcome.filter(gone).map_or(Ok(()), Err)).collect()
}

fn ours(namespace: &mut Namespace, name: IfName) -> Result<u32, Refusal> {
    let row = parse(&namespace.link(name)?).filter(|row| row.name == name && row.link.mark.is_some());
    row.map(|row| row.index).ok_or_else(|| Refusal::new(Errno::EINVAL, "it does not have our mark"))
}
