//! Rules of ours at the end of the FORWARD chains of other programs: in `ip filter` and `ip6 filter`, which
//! iptables-nft makes (and with it Docker, ufw and firewalls by hand). They accept packets through our links
//! that the chain's policy would drop.
//!
//! A link's opening is two rules with a comment of ours, one for what comes in by it and one for what goes
//! out. Ours come after all other rules, so that an operator's rule wins.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    nft,
    wire::{self, ATTEMPTS, ChainName, FORWARD, ForeignChain, ForeignRule, Passes},
};
use crate::{
    kernel::{KernelError, linux::netns::namespace::Namespace, nft::encode},
    model::IfName,
    plan::{
        ownership::TABLE,
        ruleset::{Family, LinkMatch},
        state::Netns,
    },
};

/// The comment on our rules.
const COMMENT: &str = TABLE;
/// In an observed state, marks a rule of ours that is not as it should be; it is never desired, so it always
/// makes a difference.
const ASTRAY: LinkMatch = LinkMatch::StartsNotWith(IfName::literal(TABLE));

/// The accept rules of the families whose chain is there, unless it lets everything through by itself and has no rule of ours. What
/// carries our comment, but is half an opening, a second one, or before a rule of somebody else, is seen as a
/// [`LinkMatch::StartsNotWith`].
pub(in crate::kernel::linux) fn read(
    namespace: &Namespace,
    netns: &Netns,
) -> Result<BTreeMap<Family, BTreeSet<LinkMatch>>, KernelError> {
    let mut observed = BTreeMap::new();
    for family in [Family::V4, Family::V6] {
        let Some(chain) = chain(namespace, netns, family)? else { continue };
        if chain.drops || !chain.rules.is_empty() {
            let ours = OwnRules::of(&chain);
            let links = ours.complete();
            let astray = links.len() * 2 != chain.rules.iter().filter(|rule| is_ours(rule)).count();
            observed.insert(family, links.into_iter().chain(astray.then_some(ASTRAY)).collect());
        }
    }
    Ok(observed)
}

/// Whether the chain of a family is there and says something that is not ours.
pub(in crate::kernel::linux) fn has_others(
    namespace: &Namespace,
    netns: &Netns,
    family: Family,
) -> Result<bool, KernelError> {
    let chain = chain(namespace, netns, family)?;
    Ok(chain.is_some_and(|chain| chain.drops || chain.rules.iter().any(|rule| !is_ours(rule))))
}

/// Have exactly these accept rules, in one transaction. Where there is no such chain, everything is open.
pub(in crate::kernel::linux) fn set(
    namespace: &Namespace,
    netns: &Netns,
    family: Family,
    desired: &BTreeSet<LinkMatch>,
) -> Result<(), KernelError> {
    for _attempt in 0..ATTEMPTS {
        let Some(chain) = chain(namespace, netns, family)? else { return Ok(()) };
        let commands = commands(family, &chain, desired).map_err(nft::failure)?;
        // A rule, or the chain, may have gone since it was looked at.
        if commands.is_empty() || nft::transact(namespace, netns, &commands)? {
            return Ok(());
        }
    }
    Err(nft::failure("the rules in the FORWARD chain keep changing".into()))
}

fn chain(namespace: &Namespace, netns: &Netns, family: Family) -> Result<Option<ForeignChain>, KernelError> {
    wire::settled(|| wire::chain(namespace, family, FORWARD))
        .map_err(|refusal| refusal.into_error("look at the FORWARD chain of iptables in", netns.to_string()))
}

fn is_ours(rule: &ForeignRule) -> bool {
    rule.comment.as_deref() == Some(COMMENT)
}

/// The rules of ours that are in place: as we write them, each once, behind all others.
struct OwnRules<'a>(BTreeMap<&'a Passes, u64>);

impl<'a> OwnRules<'a> {
    fn of(chain: &'a ForeignChain) -> Self {
        let last = chain.rules.iter().rposition(|rule| !is_ours(rule)).map_or(0, |last| last + 1);
        let mut ours = BTreeMap::new();
        for rule in &chain.rules[last..] {
            if let Some(passes) = &rule.passes {
                ours.entry(passes).or_insert(rule.handle);
            }
        }
        Self(ours)
    }

    /// The links of which both rules are there.
    fn complete(&self) -> BTreeSet<LinkMatch> {
        let links = self.0.keys().filter_map(|passes| match passes {
            Passes::In(link) => Some(link),
            Passes::Out(_) => None,
        });
        links.filter(|link| self.0.contains_key(&Passes::Out((*link).clone()))).cloned().collect()
    }
}

/// The commands that bring the chain to the desired state; empty if it is there already.
fn commands(family: Family, chain: &ForeignChain, desired: &BTreeSet<LinkMatch>) -> Result<String, String> {
    let ChainName { table, chain: name } = FORWARD;
    let place = match family {
        Family::V4 => format!("ip {table} {name}"),
        Family::V6 => format!("ip6 {table} {name}"),
    };
    if let Some(wrong) =
        desired.iter().find(|link| matches!(link, LinkMatch::IsNot(_) | LinkMatch::StartsNotWith(_)))
    {
        return Err(format!(
            "{wrong:?} cannot be accepted in FORWARD: expected a link's name or the start of one"
        ));
    }
    let desired: BTreeSet<Passes> =
        desired.iter().flat_map(|link| [Passes::In(link.clone()), Passes::Out(link.clone())]).collect();
    let ours = OwnRules::of(chain);
    let kept: BTreeMap<&Passes, u64> =
        ours.0.into_iter().filter(|(passes, _)| desired.contains(passes)).collect();
    let mut commands = String::new();
    for rule in chain.rules.iter().filter(|rule| is_ours(rule)) {
        if !kept.values().any(|handle| *handle == rule.handle) {
            commands += &format!("delete rule {place} handle {}\n", rule.handle);
        }
    }
    for passes in desired.iter().filter(|passes| !kept.contains_key(passes)) {
        let (key, link) = match passes {
            Passes::In(link) => ("iifname", link),
            Passes::Out(link) => ("oifname", link),
        };
        commands +=
            &format!("add rule {place} {key} {} accept comment \"{COMMENT}\"\n", encode::pattern(link)?);
    }
    Ok(commands)
}
