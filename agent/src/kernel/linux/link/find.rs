//! Links of a namespace, by their index or all of them.

use super::row::{LinkRow, parse};
use crate::kernel::linux::{netns::namespace::Namespace, refusal::Refusal, rtnl::links};

/// The link with this index.
pub(in crate::kernel::linux) fn by_index(
    namespace: &mut Namespace,
    index: u32,
) -> Result<Option<LinkRow>, Refusal> {
    Ok(parse(&namespace.rtnl.get(links::indexed(index))?))
}

/// All links of the namespace.
pub(in crate::kernel::linux) fn all(namespace: &mut Namespace) -> Result<Vec<LinkRow>, Refusal> {
    let mut rows = Vec::new();
    namespace.rtnl.dump(links::all(), &mut |body| rows.extend(parse(body)))?;
    Ok(rows)
}
