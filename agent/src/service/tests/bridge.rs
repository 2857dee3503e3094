//! The network `bridge`: made at the start, adapted to the configuration, kept where something would be cut off.

use super::*;
use crate::model::IfName;

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

async fn start(ground: Ground, config: DefaultBridge) -> (Host, Result<(), ServiceError>) {
    let host = ground.start(Some(config)).await;
    host.service.world.reached(Revisions::default()).await;
    let done = host.service.prepare_bridge().await;
    (host, done)
}

fn bridge(host: &Host) -> Network {
    host.service.world.read(|intent| intent.find_network("bridge").unwrap().0.clone())
}

/// Its gateways with the length of their subnets.
fn gateways(host: &Host) -> Vec<String> {
    let network = bridge(host);
    let all = network.subnets.iter();
    all.map(|subnet| subnet.with_prefix(subnet.gateway.unwrap()).to_string()).collect()
}

#[tokio::test]
async fn it_is_there_from_the_start_and_stays_the_same() {
    let (host, done) = start(Ground::new(), DefaultBridge::default()).await;
    done.unwrap();
    let first = bridge(&host);
    assert_eq!((first.scope, gateways(&host)), (Scope::Local, vec!["172.17.0.1/16".into()]));
    let error = refusal(host.service.remove_network("bridge").await);
    assert!(error.starts_with("network bridge is made by the agent"), "{error}");
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    assert_eq!(host.service.prune_networks().await.unwrap(), ["lan".parse().unwrap()]);
    // A route that comes later does not move it.
    let mut facts = host.kernel.facts_now();
    facts.routes.push((net("172.16.0.0/12"), "eth1".parse().unwrap()));
    host.kernel.set_facts(facts);
    let (host, done) = start(host.end().await, DefaultBridge::default()).await;
    done.unwrap();
    assert_eq!(bridge(&host), first);
    host.end().await;
}

#[tokio::test]
async fn where_the_usual_subnet_is_taken_it_has_the_first_free_one() {
    let ground = Ground::new();
    let mut facts = ground.kernel.facts_now();
    facts.routes.push((net("172.17.3.0/24"), "eth1".parse().unwrap()));
    facts.routes.push((net("10.0.0.0/24"), "eth1".parse().unwrap()));
    ground.kernel.set_facts(facts);
    let (host, done) = start(ground, DefaultBridge::default()).await;
    done.unwrap();
    assert_eq!(gateways(&host), ["10.0.1.1/24"]);
    host.end().await;
}

#[tokio::test]
async fn a_call_right_after_the_start_waits_for_it() {
    let host = Ground::new().start(Some(DefaultBridge::default())).await;
    let service = Arc::clone(&host.service);
    let (made, ready) = tokio::join!(
        async {
            service.world.reached(Revisions::default()).await;
            service.prepare_bridge().await
        },
        async {
            service.ready().await.unwrap();
            bridge(&host)
        }
    );
    made.unwrap();
    assert_eq!(ready.name.as_str(), "bridge");
    host.end().await;
}

#[tokio::test]
async fn a_change_of_the_configuration_is_taken_over() {
    let (host, done) = start(Ground::new(), DefaultBridge::default()).await;
    done.unwrap();
    let id = bridge(&host).id;
    let config = DefaultBridge {
        addresses: vec![net("10.5.0.1/16"), net("fd05::1/64")],
        ranges: vec![net("10.5.7.0/24")],
        gateways: vec!["10.5.0.254".parse().unwrap()],
        mtu: Some(1400),
        icc: false,
        masquerade: false,
        ..DefaultBridge::default()
    };
    let (host, done) = start(host.end().await, config).await;
    done.unwrap();
    let network = bridge(&host);
    assert_eq!((network.id, network.mtu), (id, Some(1400)));
    assert_eq!(gateways(&host), ["10.5.0.1/16", "fd05::1/64"]);
    let crate::model::DriverSettings::Bridge(settings) = &network.settings else { panic!("{network:?}") };
    assert_eq!((settings.icc, settings.masquerade), (false, false));
    let aux = |at: usize| network.subnets[at].aux_addresses.clone();
    assert_eq!(aux(0), [("DefaultGatewayIPv4".to_owned(), "10.5.0.254".parse().unwrap())].into());
    assert!(aux(1).is_empty());
    let endpoint = host.sandbox("box", "bridge").await.endpoints.remove(0);
    assert_eq!(endpoint.addresses[0], net("10.5.7.0/16"), "from the range");
    let keys = host.keys(Scope::Local).await;
    assert!(!keys.iter().any(|key| key.contains("172.17.0.1")), "{keys:?}");
    // What says nothing of the subnet leaves it.
    let (host, done) = start(host.end().await, DefaultBridge::default()).await;
    done.unwrap();
    assert_eq!(gateways(&host), ["10.5.0.1/16", "fd05::1/64"]);
    assert_eq!((bridge(&host).mtu, bridge(&host).subnets[0].ip_range), (None, None));
    host.end().await;
}

#[tokio::test]
async fn what_would_cut_off_a_sandbox_waits() {
    let (host, done) = start(Ground::new(), DefaultBridge::default()).await;
    done.unwrap();
    host.sandbox("box", "bridge").await;
    let other = DefaultBridge { addresses: vec![net("10.5.0.1/16")], ..DefaultBridge::default() };
    let (host, done) = start(host.end().await, other).await;
    let error = refusal(done);
    assert!(
        error.starts_with("network bridge stays as it is (172.17.0.1/16)") && error.contains("cut off box"),
        "{error}"
    );
    assert_eq!(gateways(&host), ["172.17.0.1/16"]);
    let none = DefaultBridge { wanted: false, ..DefaultBridge::default() };
    let (host, done) = start(host.end().await, none.clone()).await;
    assert!(refusal(done).contains("network bridge has 1 endpoint: box"));
    host.service.remove_sandbox("box", false).await.unwrap();
    let (host, done) = start(host.end().await, none).await;
    done.unwrap();
    let error = host.service.world.read(|intent| intent.find_network("bridge").unwrap_err().to_string());
    assert_eq!(error, "no such network: bridge");
    host.end().await;
}

#[tokio::test]
async fn a_bridge_of_somebody_else_brings_its_addresses() {
    let config = DefaultBridge { link: Some(IfName::literal("br7")), ..DefaultBridge::default() };
    let (host, done) = start(Ground::new(), config.clone()).await;
    let error = refusal(done);
    assert!(error.contains("\"br7\": this host has no bridge of this name"), "{error}");
    let (name, mac) = (IfName::literal("br7"), "02:00:00:00:99:01".parse::<crate::model::Mac>().unwrap());
    host.kernel.edit(|state| {
        let link = Link { mark: None, ..Link::new(LinkKind::Bridge, Mark::new(Unit::Host, "x"), mac, 1500) };
        state.netns.get_mut(&Netns::Host).unwrap().links.insert(name, link);
    });
    let mut facts = host.kernel.facts_now();
    facts.links.push(FactLink { name, mtu: 1500, up: true, addresses: vec![net("172.30.0.7/24")] });
    facts.routes.push((net("172.30.0.0/24"), name));
    host.kernel.set_facts(facts);
    host.service.prepare_bridge().await.unwrap();
    assert_eq!(gateways(&host), ["172.30.0.7/24"]);
    // Back to our own: that subnet stays the other one's.
    let (host, done) = start(host.end().await, DefaultBridge::default()).await;
    done.unwrap();
    assert_eq!(gateways(&host), ["172.17.0.1/16"]);
    host.end().await;
}

#[tokio::test]
async fn what_lies_outside_of_its_subnet_is_told() {
    let config = DefaultBridge { gateways: vec!["10.5.0.254".parse().unwrap()], ..DefaultBridge::default() };
    let (host, done) = start(Ground::new(), config).await;
    let error = refusal(done);
    assert!(
        error.contains(
            "invalid default-gateway \"10.5.0.254\": it lies outside network bridge (172.17.0.0/16)"
        ),
        "{error}"
    );
    let ranges = vec![net("10.6.0.0/24"), net("fd06::/64")];
    let (host, done) = start(host.end().await, DefaultBridge { ranges, ..DefaultBridge::default() }).await;
    done.unwrap();
    assert_eq!(
        gateways(&host),
        ["10.6.0.1/24", "fd06::1/64"],
        "a range of its own is the subnet, as in Docker"
    );
    host.end().await;
}
