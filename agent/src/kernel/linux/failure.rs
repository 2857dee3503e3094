//! Why a step failed, and the error that tells it.

use nix::errno::Errno;

use crate::{
    kernel::{KernelError, linux::refusal::Refusal, step},
    plan::{
        op::{LinkRow, Op, SettingOp},
        state::LinkKind,
    },
};

/// Why a step failed.
pub(super) enum Failure {
    Refused(Refusal),
    Other(KernelError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        Self::Other(error)
    }
}

impl Failure {
    /// The error of this step, or `None` if the object to remove was already gone.
    pub(super) fn into_error(self, op: &Op) -> Option<KernelError> {
        let refusal = match self {
            Self::Other(error) => return Some(error),
            Self::Refused(refusal) => refusal,
        };
        // A link that is no port (or no vxlan device) any more has no such row.
        let no_table = refusal.errno == Errno::EOPNOTSUPP
            && matches!(op, Op::Row(_, _, LinkRow::BridgeFdb(_) | LinkRow::VxlanFdb(..) | LinkRow::Flood(_)));
        if op.removes() && (refusal.is_absence() || no_table) {
            return None;
        }
        if refusal.lacks_driver()
            && let Some((feature, option)) = driver(op)
        {
            return Some(KernelError::Missing { feature, option });
        }
        let (operation, target) = step::words(op);
        Some(refusal.into_error(operation, target))
    }
}

/// The driver, or the part of one, that a step needs.
fn driver(op: &Op) -> Option<(&'static str, &'static str)> {
    if matches!(op, Op::AddVeth(..)) {
        return Some(("veth pairs", "CONFIG_VETH (modprobe veth)"));
    }
    if matches!(op, Op::Setting(_, SettingOp::SetResolver(_))) {
        let option = "CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_INGRESS (modprobe nf_tables)";
        return Some(("nftables hooks at the ingress of links", option));
    }
    let Op::AddLink(_, kind) = op else { return None };
    match kind {
        LinkKind::Bridge => Some(("bridges", "CONFIG_BRIDGE (modprobe bridge)")),
        LinkKind::Vxlan(_) => Some(("vxlan devices", "CONFIG_VXLAN (modprobe vxlan)")),
        LinkKind::Macvlan(..) => Some(("macvlan links", "CONFIG_MACVLAN (modprobe macvlan)")),
        LinkKind::Ipvlan(..) => Some(("ipvlan links", "CONFIG_IPVLAN (modprobe ipvlan)")),
        LinkKind::Vlan(..) => Some(("VLANs", "CONFIG_VLAN_8021Q (modprobe 8021q)")),
        LinkKind::Veth | LinkKind::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
    use netlink_packet_route::{RouteNetlinkMessage, link::InfoKind};
    use rtnetlink::{LinkMessageBuilder, LinkUnspec};

    use super::*;
    use crate::{
        kernel::{
            ApplyError,
            linux::{
                netns::test_netns,
                rtnl::{batch::Request, socket::Rtnl},
            },
        },
        plan::{
            op::{LinkOp, LinkRef, NewLink},
            ownership::{Mark, Unit},
            state::Netns,
        },
    };

    fn add_bridge() -> Op {
        let at = LinkRef { netns: Netns::Host, name: "br0".parse().unwrap() };
        let mac = "02:00:00:00:00:01".parse().unwrap();
        Op::AddLink(
            NewLink { at, mark: Mark::new(Unit::Host, "br0"), mac: Some(mac), mtu: 1500 },
            LinkKind::Bridge,
        )
    }

    fn told(refusal: Refusal) -> String {
        let op = add_bridge();
        let error = Failure::from(refusal).into_error(&op).unwrap();
        ApplyError { total: 1, failures: vec![(op, error)] }.to_string()
    }

    /// Asks the real kernel for a kind of link that none has.
    #[test]
    fn a_driver_that_this_kernel_lacks_is_told_with_its_option() {
        test_netns::run(|| {
            let kind = InfoKind::Other("ovnet-none".into());
            let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind).name("x").build();
            let message = RouteNetlinkMessage::NewLink(link);
            let refusal = Rtnl::open()
                .unwrap()
                .apply(Request { message, flags: NLM_F_CREATE | NLM_F_EXCL })
                .unwrap_err();
            let text = told(refusal);
            assert!(
                text.ends_with("the kernel has no bridges: it needs CONFIG_BRIDGE (modprobe bridge)"),
                "{text}"
            );
        });
    }

    #[test]
    fn an_option_that_a_driver_lacks_is_told_in_the_kernels_words() {
        let text = told(Refusal::new(Errno::EOPNOTSUPP, "VLAN filtering is not supported"));
        assert!(text.ends_with("VLAN filtering is not supported"), "{text}");
        let text = told(Errno::EOPNOTSUPP.into());
        assert!(text.contains("CONFIG_BRIDGE"), "{text}");
    }

    #[test]
    fn a_removal_of_what_is_gone_is_no_failure() {
        let op = Op::Link(LinkRef { netns: Netns::Host, name: "gone".parse().unwrap() }, LinkOp::Remove);
        assert!(Failure::from(Refusal::from(Errno::ENODEV)).into_error(&op).is_none());
        assert!(Failure::from(Refusal::from(Errno::EBUSY)).into_error(&op).is_some());
    }
}
