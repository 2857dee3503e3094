//! What nothing but time asks for, with the loop running in paused time.

use tokio::time::{Instant, sleep};

use super::{hinted::Running, *};
use crate::plan::netns_of;

/// The bench's time between looks at everything.
const PERIOD: Duration = Duration::from_secs(3600);

/// An overlay by number, 10.<number>.0.0/24.
fn overlay_by(number: u8) -> Network {
    let mut network = Network { id: NetworkId::from_bytes([number; 32]), ..testing::network() };
    network.name = format!("net{number}").parse().unwrap();
    network.vni = Some(crate::model::Vni::new(1_000 + u32::from(number)).unwrap());
    network.subnets[0].prefix = format!("10.{number}.0.0/24").parse().unwrap();
    network.subnets[0].gateway = Some(format!("10.{number}.0.1").parse().unwrap());
    network
}

/// An endpoint with this number for its last octet; number 2 is in sandbox `a`, others are in `b`.
fn endpoint_of(network: &Network, number: u8) -> Endpoint {
    let address = network.subnets[0]
        .with_prefix(format!("10.{}.0.{number}", network.id.as_bytes()[0]).parse().unwrap());
    let mut endpoint = endpoint(network, number, if number == 2 { "a" } else { "b" });
    endpoint.addresses = vec![address];
    endpoint.mac = Mac::derived(address.addr());
    endpoint
}

/// Overlays 1 to `count`, each with an endpoint in sandbox `a`, and a loop that runs.
async fn running(count: u8) -> Running {
    let mut bench = Bench::new().await;
    bench.sandbox("a").await;
    bench.sandbox("b").await;
    for number in 1..=count {
        let network = overlay_by(number);
        let own = network.subnets[0].with_prefix(format!("10.{number}.0.250").parse().unwrap());
        let member = crate::model::Member {
            network: network.id,
            node: ME,
            mac: Mac::derived(own.addr()),
            addresses: vec![own],
        };
        let facts = vec![
            known(&network),
            Fact::Member(network.id, ME, Some(member)),
            there(&endpoint_of(&network, 2)),
        ];
        bench.say(Source::Global, facts).await;
    }
    bench.check_whole().await;
    Running::of(bench).await
}

fn looks_into(look: &crate::plan::state::Look, networks: std::ops::RangeInclusive<u8>) -> bool {
    networks.into_iter().any(|number| look.netns.contains_key(&netns_of(overlay_by(number).id)))
}

#[tokio::test(start_paused = true)]
async fn a_change_does_not_wait_behind_looks_that_the_timer_asks_for() {
    let running = running(40).await;
    // Looks at all but one take for ever.
    running.kernel.hold_looks(|look| looks_into(look, 1..=39));
    let start = Instant::now();
    while running.kernel.held() == 0 {
        sleep(Duration::from_secs(1)).await;
        assert!(start.elapsed() <= PERIOD + Duration::from_secs(60), "no look by the timer");
    }
    let network = overlay_by(40);
    let before = Instant::now();
    running.world.feed(Source::Global, 1_000, vec![there(&endpoint_of(&network, 7))]);
    let revisions = Revisions { global: 1_000, local: 0 };
    let outcome = running.world.programmed(Unit::Network(network.id), revisions).await;
    assert!(outcome.failures.is_empty(), "{outcome:?}");
    assert_eq!(before.elapsed(), Duration::ZERO, "it waited");
    // The network that is looked at takes changes, too.
    let first = overlay_by(1);
    running.world.feed(Source::Global, 1_001, vec![there(&endpoint_of(&first, 7))]);
    running.world.programmed(Unit::Network(first.id), Revisions { global: 1_001, local: 0 }).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "it waited");
    running.kernel.open_gate();
    sleep(Duration::from_secs(60)).await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_somebody_changes_inside_is_found_within_the_period() {
    let running = running(10).await;
    let netns = netns_of(overlay_by(3).id);
    let damage = || {
        running.kernel.edit(|state| {
            let there = state.netns.get_mut(&netns).unwrap();
            there.table = None;
            there.links.values_mut().for_each(|link| link.addresses.clear());
        });
    };
    let whole = running.kernel.state();
    for _ in 0..3 {
        damage();
        assert_ne!(running.kernel.state(), whole);
        sleep(PERIOD + Duration::from_secs(5)).await;
        assert_eq!(running.kernel.state(), whole);
    }
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_look_by_the_timer_at_what_is_whole_is_one_look_and_says_so_to_the_others() {
    let running = running(10).await;
    sleep(PERIOD - Duration::from_secs(10)).await;
    running.told.0.lock().unwrap().clear();
    let (looked, applied) = (running.kernel.looked(), running.kernel.applied());
    sleep(Duration::from_secs(20)).await;
    assert_eq!(running.kernel.applied(), applied, "nothing was to be done");
    // Ten networks, two sandboxes, the host; and what all of them depend on.
    let looks = running.kernel.looked() - looked;
    assert!((13..=17).contains(&looks), "{looks} looks");
    let told: BTreeSet<NetworkId> = running.told.0.lock().unwrap().iter().map(|(id, _)| *id).collect();
    assert_eq!(told.len(), 10);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_network_that_changes_while_it_is_looked_at_is_not_taken_for_damaged() {
    let running = running(1).await;
    let network = overlay_by(1);
    running.kernel.hold_looks(|look| looks_into(look, 1..=1));
    while running.kernel.held() == 0 {
        sleep(Duration::from_secs(1)).await;
    }
    // The look that waits will see what it does not know of.
    running.world.feed(Source::Global, 1_000, vec![there(&endpoint_of(&network, 7))]);
    running.world.programmed(Unit::Network(network.id), Revisions { global: 1_000, local: 0 }).await;
    let (whole, applied) = (running.kernel.state(), running.kernel.applied());
    running.kernel.open_gate();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.kernel.applied(), applied);
    assert_eq!(running.kernel.state(), whole);
    running.end().await;
}
