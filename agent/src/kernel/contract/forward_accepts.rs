//! A check on what others' FORWARD chains let through.

use std::collections::BTreeSet;

use super::{Stranger, apply, build::Built, chain};
use crate::{
    kernel::Kernel,
    model::IfName,
    plan::{
        op::{Op, SettingOp},
        ruleset::{Family, LinkMatch},
        state::{Look, LookAt, Netns},
    },
};

pub(super) async fn kept<K: Kernel>(kernel: &K, stranger: &impl Stranger) -> Built<()> {
    stranger.close(Family::V4)?;
    let outcome = opened(kernel).await;
    stranger.open(Family::V4)?;
    outcome?;
    same(kernel, None).await
}

async fn opened<K: Kernel>(kernel: &K) -> Built<()> {
    let none = BTreeSet::new();
    same(kernel, Some(&none)).await?;
    let links: BTreeSet<LinkMatch> =
        [LinkMatch::StartsWith(IfName::literal("ovb-")), LinkMatch::Is(IfName::literal("ovnet0"))].into();
    let fewer: BTreeSet<LinkMatch> = links.iter().take(1).cloned().collect();
    for desired in [&links, &links, &fewer, &none] {
        let set = |family| Op::Setting(Netns::Host, SettingOp::SetForwardAccepts(family, desired.clone()));
        // Nobody has a chain for IPv6.
        apply(kernel, vec![set(Family::V4), set(Family::V6)]).await?;
        same(kernel, Some(desired)).await?;
    }
    let unasked = Look { netns: [(Netns::Host, LookAt::default())].into() };
    let observed = kernel.observe(unasked).await.map_err(|error| chain(&error))?;
    match observed.netns.get(&Netns::Host) {
        Some(host) if host.forward_accepts.is_empty() && host.forwarders.is_empty() => Ok(()),
        host => Err(format!("accept rules were seen although the look did not ask: {host:?}")),
    }
}

/// Whether these accept rules are seen over IPv4, and none over IPv6.
async fn same<K: Kernel>(kernel: &K, desired: Option<&BTreeSet<LinkMatch>>) -> Built<()> {
    let at = LookAt { forward_accepts: true, ..LookAt::default() };
    let look = Look { netns: [(Netns::Host, at)].into() };
    let observed = kernel.observe(look).await.map_err(|error| chain(&error))?;
    let host = observed.netns.get(&Netns::Host).ok_or("no host")?;
    // Openings of ours do not make us one of the others.
    let others = desired.map(|_| Family::V4).into_iter().collect();
    if host.forwarders != others {
        return Err(format!("others have rules for {others:?}\n  seen {:?}", host.forwarders));
    }
    let observed = &host.forward_accepts;
    if observed.len() == usize::from(desired.is_some()) && observed.get(&Family::V4) == desired {
        Ok(())
    } else {
        Err(format!("wanted {desired:?}\n  seen {observed:?}"))
    }
}
