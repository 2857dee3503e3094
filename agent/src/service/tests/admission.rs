//! On what terms an endpoint joins: each refusal with its words, and what comes of what is taken.

use super::*;
use crate::model::{EndpointLink, IfName};

fn option(name: &'static str, value: &'static str) -> impl FnOnce(&mut AttachSpec) {
    move |spec| spec.options = options(&[(name, value)])
}

fn link(endpoint: &'static str, alias: &'static str) -> impl FnOnce(&mut AttachSpec) {
    move |spec| {
        spec.links.push(EndpointLink { endpoint: endpoint.parse().unwrap(), alias: alias.parse().unwrap() });
    }
}

#[tokio::test]
async fn interfaces_are_named_by_the_network_the_option_or_in_turn() {
    let host = Host::start().await;
    host.make(("bridge", "plain"), &[], |_| ()).await.unwrap();
    host.make(("bridge", "lan"), &[("com.docker.network.container_iface_prefix", "lan")], |_| ())
        .await
        .unwrap();
    host.make(("bridge", "chosen"), &[], |_| ()).await.unwrap();
    host.empty("box").await;
    let first = host.connect(("box", "plain"), |_| ()).await.unwrap();
    let prefixed = host.connect(("box", "lan"), |_| ()).await.unwrap();
    assert_eq!((first.ifname, prefixed.ifname), (IfName::literal("eth0"), IfName::literal("lan0")));
    let error = refusal(host.connect(("box", "chosen"), option("ifname", "lan0")).await);
    assert!(error.starts_with("sandbox box has an interface named lan0 already"), "{error}");
    let chosen = |spec: &mut AttachSpec| {
        let chosen = [("ifname", "up0"), ("sysctls", "net.ipv4.conf.IFNAME.log_martians=1")];
        spec.options = options(&chosen);
    };
    let endpoint = host.connect(("box", "chosen"), chosen).await.unwrap();
    assert_eq!(endpoint.ifname, IfName::literal("up0"));
    let expected = [("net/ipv4/conf/up0/log_martians".to_owned(), "1".to_owned())];
    assert_eq!(endpoint.sysctls, expected.into());
    host.end().await;
}

#[tokio::test]
async fn link_local_addresses_are_one_endpoints_each() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    host.empty("a").await;
    host.empty("b").await;
    let address =
        |text: &'static str| move |spec: &mut AttachSpec| spec.link_local.push(text.parse().unwrap());
    let a = host.connect(("a", "lan"), address("169.254.7.7")).await.unwrap();
    assert_eq!(a.link_local, ["169.254.7.7".parse::<IpAddr>().unwrap()]);
    let error = refusal(host.connect(("b", "lan"), address("169.254.7.7")).await);
    assert_eq!(error, "link-local address 169.254.7.7 of network lan is taken by endpoint a");
    let error = refusal(host.connect(("b", "lan"), address("fe80::7")).await);
    assert!(error.contains("network lan has no IPv6"), "{error}");
    host.service.disconnect("lan", "a", false).await.unwrap();
    host.connect(("b", "lan"), address("169.254.7.7")).await.unwrap();
    host.end().await;
}

#[tokio::test]
async fn of_two_preferred_endpoints_of_a_sandbox_one_is_refused() {
    let host = Host::start().await;
    host.make(("bridge", "one"), &[], |_| ()).await.unwrap();
    host.network("two").await;
    host.empty("box").await;
    let priority = |number| move |spec: &mut AttachSpec| spec.gateway_priority = number;
    host.connect(("box", "one"), priority(5)).await.unwrap();
    let error = refusal(host.connect(("box", "two"), priority(5)).await);
    assert!(error.starts_with("sandbox box has gateway priority 5 in network one already"), "{error}");
    assert_eq!(host.connect(("box", "two"), priority(6)).await.unwrap().gateway_priority, 6);
    host.end().await;
}

#[tokio::test]
async fn links_lead_to_others_under_names_of_ones_own_and_never_back() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[("icc", "false")], |_| ()).await.unwrap();
    for name in ["web", "db", "cache"] {
        host.empty(name).await;
    }
    host.connect(("cache", "lan"), |_| ()).await.unwrap();
    for (change, part) in [
        (link("db", "db"), "network lan has no endpoint of this name"),
        (link("web", "me"), "it leads to the sandbox itself"),
        (link("cache", "web"), "the alias web is the name of another endpoint"),
    ]
    .map(|(change, part)| (Box::new(change) as Box<dyn FnOnce(&mut AttachSpec)>, part))
    {
        let error = refusal(host.connect(("web", "lan"), change).await);
        assert!(error.starts_with("invalid link") && error.contains(part), "{error}");
    }
    host.connect(("db", "lan"), link("cache", "store")).await.unwrap();
    let web = host.connect(("web", "lan"), link("db", "database")).await.unwrap();
    assert_eq!(web.links[0].alias.as_str(), "database");
    let twice = |spec: &mut AttachSpec| {
        link("db", "x")(spec);
        link("web", "x")(spec);
    };
    host.service.disconnect("lan", "cache", false).await.unwrap();
    let error = refusal(host.connect(("cache", "lan"), twice).await);
    assert!(
        error.contains("links must not form a loop") || error.contains("alias x is given to db"),
        "{error}"
    );
    let error = refusal(host.connect(("cache", "lan"), link("web", "front")).await);
    assert!(error.ends_with("links must not form a loop: cache -> web -> db -> cache"), "{error}");
    host.connect(("cache", "lan"), |_| ()).await.unwrap();
    host.end().await;
}

#[tokio::test]
async fn a_pair_has_two_ends_and_passthru_one() {
    let host = Host::start().await;
    host.make(("p2p", "pair"), &[], |spec| spec.subnets.subnets.push("10.3.0.0/31".into())).await.unwrap();
    let passthru = [("parent", "eth1"), ("macvlan_mode", "passthru")];
    host.make(("macvlan", "whole"), &passthru, |_| ()).await.unwrap();
    for name in ["a", "b", "c"] {
        host.empty(name).await;
    }
    let ends =
        futures_util::future::join_all(["a", "b", "c"].map(|name| host.connect((name, "pair"), |_| ())))
            .await;
    let refused: Vec<String> =
        ends.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].starts_with("network pair is a pair (p2p), and joins already "), "{refused:?}");
    host.connect(("a", "whole"), |_| ()).await.unwrap();
    let error = refusal(host.connect(("b", "whole"), |_| ()).await);
    assert!(
        error.contains("gives its parent eth1 to one endpoint only (passthru), and that is a"),
        "{error}"
    );
    host.end().await;
}

#[tokio::test]
async fn links_of_ipvlan_have_no_ethernet_address_of_their_own() {
    let host = Host::start().await;
    host.make(("ipvlan", "net"), &[("parent", "eth0")], |_| ()).await.unwrap();
    host.empty("box").await;
    let mac = |spec: &mut AttachSpec| spec.mac = Some("02:42:00:00:00:07".parse().unwrap());
    let error = refusal(host.connect(("box", "net"), mac).await);
    assert!(error.contains("share the Ethernet address of their parent"), "{error}");
    host.end().await;
}
