//! Checks on links that are on a link of the host.

use super::{
    Stranger, apply,
    build::{Built, ETH, NETNS, at, mac, mark, name, net, sandbox},
    chain, cleared, expect, refused, steps, told,
};
use crate::{
    kernel::Kernel,
    model::{IfName, MacvlanMode},
    plan::{
        op::{LinkOp, NetnsOp, NewLink, Op},
        state::{Link, LinkKind, Look, LookAt, Netns, NetnsState, State},
    },
};

/// A link of somebody else, with an MTU of 1500 bytes.
const PARENT: IfName = IfName::literal("ovk-parent");
const MODES: [MacvlanMode; 3] = [MacvlanMode::Bridge, MacvlanMode::Private, MacvlanMode::Vepa];

pub(super) async fn kept<K: Kernel>(kernel: &K, stranger: &impl Stranger) -> Built<()> {
    let parent = at(&Netns::Host, PARENT);
    stranger.add_link(&parent)?;
    let outcome = cleared(kernel, seen_and_refused(kernel)).await;
    if let Err(text) = outcome {
        stranger.remove_link(&parent)?;
        return Err(text);
    }
    // With its parent goes what is on it.
    let outcome = cleared(kernel, async {
        apply(kernel, steps(&desired(MacvlanMode::Bridge)?)).await?;
        stranger.remove_link(&parent)?;
        let look = Look { netns: [(sandbox()?, LookAt::default())].into() };
        let observed = kernel.observe(look).await.map_err(|error| chain(&error))?;
        match observed.netns.get(&sandbox()?) {
            Some(there) if there.links.is_empty() => Ok(()),
            there => Err(format!("the parent has gone: {there:?}")),
        }
    });
    outcome.await
}

/// A sandbox with a link on the parent.
fn desired(mode: MacvlanMode) -> Built<State> {
    let mut link = Link::new(LinkKind::Macvlan(PARENT, mode), mark("ep"), mac(31)?, 1400);
    link.addresses = [net("10.88.0.2/24")?, net("fd88::2/64")?].into();
    let sysctls = [("net/ipv4/conf/eth0/arp_announce".to_owned(), "2".to_owned())].into();
    let links = [(ETH, link)].into();
    let there = NetnsState { mark: Some(mark("box")), links, sysctls, ..NetnsState::default() };
    Ok(State { netns: [(sandbox()?, there)].into() })
}

async fn seen_and_refused<K: Kernel>(kernel: &K) -> Built<()> {
    for mode in MODES {
        let desired = desired(mode)?;
        apply(kernel, steps(&desired)).await?;
        expect(kernel, &desired).await?;
        apply(kernel, vec![Op::Link(at(&sandbox()?, ETH), LinkOp::Remove)]).await?;
        // Its settings have gone with it, and come back with it: see `expect` of the next round.
        apply(kernel, vec![Op::Netns(sandbox()?, NetnsOp::Remove)]).await?;
    }
    let mut state = desired(MacvlanMode::Bridge)?;
    apply(kernel, steps(&state)).await?;
    let here = Netns::Named(name(NETNS[1])?);
    let new = |link, mtu| -> Built<NewLink> {
        Ok(NewLink { at: at(&here, IfName::literal(link)), mark: mark("x"), mac: Some(mac(32)?), mtu })
    };
    let on = |parent, mode| LinkKind::Macvlan(IfName::literal(parent), mode);
    let cases = [
        (Op::AddLink(new("eth1", 1400)?, on("ovk-gone", MacvlanMode::Bridge)), "no link named ovk-gone"),
        (
            Op::AddLink(new("eth1", 1501)?, on("ovk-parent", MacvlanMode::Bridge)),
            "larger than the 1500 of its parent ovk-parent",
        ),
        (Op::AddLink(new("eth1", 1400)?, on("ovk-parent", MacvlanMode::Passthru)), "exclusively"),
        (Op::Link(at(&here, ETH), LinkOp::SetMtu(1501)), "larger than the 1500 of its parent ovk-parent"),
    ];
    for (op, words) in cases {
        let error = refused(kernel, vec![op.clone()]).await.map_err(|text| format!("{text}\n{op}"))?;
        if !told(&error).contains(words) {
            return Err(format!("{op}: expected \"{words}\" in {}", told(&error)));
        }
    }
    // Nothing came of them; and what is in order still works.
    expect(kernel, &state).await?;
    let link = state.netns.get_mut(&here).and_then(|there| there.links.get_mut(&ETH)).ok_or("no link")?;
    link.mtu = 1500;
    apply(kernel, vec![Op::Link(at(&here, ETH), LinkOp::SetMtu(1500))]).await?;
    expect(kernel, &state).await
}
