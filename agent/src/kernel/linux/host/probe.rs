//! Finds what this kernel lacks for networks, by trying it in a private network namespace.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{RouteNetlinkMessage, link::InfoKind};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::kernel::{
    KernelError,
    linux::{
        netfilter::{nft, wire},
        netns::named::in_fresh_namespace,
        refusal::Refusal,
        rtnl::{batch::Request, socket::Rtnl},
    },
};

/// A driver, what it makes, and the option that has it.
type Driver = (InfoKind, &'static str, &'static str);

/// The features that every overlay needs; those of other drivers are reported when one is used.
fn drivers() -> [Driver; 3] {
    [
        (InfoKind::Vxlan, "vxlan devices", "CONFIG_VXLAN (modprobe vxlan)"),
        (InfoKind::Bridge, "bridges", "CONFIG_BRIDGE (modprobe bridge)"),
        (InfoKind::Veth, "veth pairs", "CONFIG_VETH (modprobe veth)"),
    ]
}

/// Each of those that this kernel has not, as [`KernelError::Missing`]. Loads their modules, as the first network would.
pub(in crate::kernel::linux) fn lacking() -> Result<Vec<KernelError>, Refusal> {
    let mut lacking = missing(&drivers())?;
    in_fresh_namespace(|| {
        if wire::answers().is_err_and(|refusal| wire::is_missing(&refusal)) {
            lacking.push(nft::missing());
        }
        Ok(())
    })?;
    Ok(lacking)
}

fn missing(drivers: &[Driver]) -> Result<Vec<KernelError>, Refusal> {
    let mut missing = Vec::new();
    in_fresh_namespace(|| {
        let mut rtnl = Rtnl::open()?;
        for (kind, feature, option) in drivers {
            let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(kind.clone()).name("try");
            let message = RouteNetlinkMessage::NewLink(link.build());
            // Most are refused for what they are not told. The namespace takes along what is not.
            let tried = rtnl.apply(Request { message, flags: NLM_F_CREATE | NLM_F_EXCL });
            if tried.is_err_and(|refusal| refusal.lacks_driver()) {
                missing.push(KernelError::Missing { feature, option });
            }
        }
        Ok(())
    })?;
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::linux::netns::test_netns;

    #[test]
    fn what_this_kernel_has_is_not_missed_and_what_none_has_is() {
        test_netns::run(|| {
            let has = lacking().unwrap();
            assert!(has.is_empty(), "the tests need all of it: {has:?}");
            let none = (InfoKind::Other("ovnet-none".into()), "teapots", "CONFIG_TEAPOT (modprobe teapot)");
            let [vxlan, bridge, veth] = drivers();
            let told = missing(&[vxlan, none, bridge, veth]).unwrap();
            let told: Vec<String> = told.iter().map(ToString::to_string).collect();
            assert_eq!(told, ["the kernel has no teapots: it needs CONFIG_TEAPOT (modprobe teapot)"]);
        });
    }

    #[test]
    fn nothing_of_a_try_stays() {
        test_netns::run(|| {
            lacking().unwrap();
            let links = std::fs::read_to_string("/proc/net/dev").unwrap();
            assert!(!links.contains("try"), "{links}");
        });
    }
}
