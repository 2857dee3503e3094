use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    model::{NetworkId, testing},
    store::{Commit, Embedded, StoreStatus, follow},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A follower and a feed of one store, and the world that they fill.
struct Fed {
    world: Arc<World>,
    store: Store,
    _tasks: JoinSet<()>,
}

fn cluster(number: u128) -> ClusterId {
    ClusterId(uuid::Uuid::from_u128(number))
}

fn start(store: &Store, evidence: Evidence, known: Option<ClusterId>) -> Fed {
    let (world, mut tasks) = (Arc::new(World::new(testing::ME)), JoinSet::new());
    if let Some(known) = known {
        world.set_cluster(known);
    }
    world.feed_snapshot(Source::Local, 1, Vec::new(), &BTreeSet::new());
    let (out, changes) = mpsc::channel(8);
    let (status, _) = watch::channel(StoreStatus::Starting);
    let range = KeyRange::followed();
    tasks.spawn(follow(store.clone(), range.clone(), out, status, CancellationToken::new()));
    let from = Feed { source: Source::Global, store: store.clone(), range, evidence };
    tasks.spawn(feed(Arc::clone(&world), from, changes));
    Fed { world, store: store.clone(), _tasks: tasks }
}

impl Fed {
    async fn commit(&self, commit: Commit) -> i64 {
        self.store.commit(commit).await.unwrap()
    }

    async fn knows(&self, revision: i64) {
        let reached = self.world.reached(super::super::world::Revisions { global: revision, local: 0 });
        tokio::time::timeout(PATIENCE, reached).await.expect("the world knows the revision");
    }

    async fn until(&self, held: bool) -> Option<String> {
        let mut turns = self.world.hold_changes();
        let changed = async {
            while self.world.held().is_some() != held {
                drop(turns.changed().await);
            }
        };
        tokio::time::timeout(PATIENCE, changed).await.expect("it is held, or let go");
        self.world.held()
    }

    fn endpoints(&self) -> usize {
        self.world.read(|intent| intent.count_endpoints(Source::Global, testing::ME))
    }
}

fn endpoint(number: u8) -> Endpoint {
    testing::endpoint(number, testing::ME)
}

/// A network with so many endpoints of this node, and the cluster's identity.
fn records(endpoints: u8) -> Commit {
    let network = testing::network();
    let member = testing::member(1, testing::ME);
    let commit = Commit::new()
        .put(Key::Identity(Identity::Cluster), cluster(1).to_string())
        .put(Key::Network(network.id), network.to_bytes())
        .put(Key::Member(network.id, testing::ME), member.to_bytes());
    (0..endpoints).fold(commit, |commit, number| {
        let endpoint = endpoint(10 + number);
        let name = Key::EndpointName(network.id, endpoint.name.clone());
        commit
            .put(Key::Endpoint(network.id, endpoint.id), endpoint.to_bytes())
            .put(name, endpoint.id.to_string())
    })
}

/// What a verb does: an endpoint goes with its name.
fn removal(numbers: std::ops::Range<u8>) -> Commit {
    let network = testing::network().id;
    numbers.fold(Commit::new(), |commit, number| {
        let endpoint = endpoint(10 + number);
        commit.delete(Key::Endpoint(network, endpoint.id)).delete(Key::EndpointName(network, endpoint.name))
    })
}

async fn filled(endpoints: u8) -> Fed {
    let store = Store::embedded(&Embedded::open(None).unwrap());
    let revision = store.commit(records(endpoints)).await.unwrap();
    let fed = start(&store, Evidence::default(), None);
    fed.knows(revision).await;
    fed
}

#[tokio::test]
async fn the_identity_of_the_first_store_is_learned_and_its_loss_is_held_until_it_is_back() {
    let fed = filled(1).await;
    assert_eq!(fed.world.cluster(), Some(cluster(1)));
    fed.commit(Commit::new().delete_range(KeyRange::everything())).await;
    let why = fed.until(true).await.unwrap();
    assert!(why.contains("the cluster's identity is not in it") && why.contains("accept-empty"), "{why}");
    assert_eq!(fed.endpoints(), 1, "nothing was taken in");
    // What comes meanwhile is not taken in either.
    fed.commit(
        Commit::new()
            .delete(Key::Node(testing::OTHER))
            .put(Key::Identity(Identity::Cluster), cluster(2).to_string()),
    )
    .await;
    let back = fed.commit(records(2)).await;
    fed.until(false).await;
    fed.knows(back).await;
    assert_eq!(fed.endpoints(), 2);
    let revision = fed.commit(removal(0..1).delete(Key::Vni(crate::model::Vni::new(300).unwrap()))).await;
    fed.world.expect_removal(endpoint(10).id);
    fed.knows(revision).await;
    assert_eq!(fed.endpoints(), 1, "changes are followed again");
}

#[tokio::test]
async fn another_clusters_store_is_held_until_a_person_accepts_it_and_so_is_an_empty_one() {
    let store = Store::embedded(&Embedded::open(None).unwrap());
    let fed = start(&store, Evidence::default(), Some(cluster(9)));
    let why = fed.until(true).await.unwrap();
    assert!(why.contains(&cluster(9).to_string()), "{why}");
    let foreign = fed.commit(records(1)).await;
    let why = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(why) = fed.world.held().filter(|why| why.contains(&cluster(1).to_string())) {
                return why;
            }
            drop(fed.world.hold_changes().changed().await);
        }
    });
    assert!(why.await.unwrap().contains("the records of a different cluster"));
    // From 9 by way of 5 to 1.
    let accepted = Commit::new()
        .put(Key::Identity(Identity::Accepted(cluster(9))), cluster(5).to_string())
        .put(Key::Identity(Identity::Accepted(cluster(5))), cluster(1).to_string());
    fed.commit(accepted).await;
    fed.until(false).await;
    fed.knows(foreign).await;
    assert_eq!(fed.world.cluster(), Some(cluster(1)));
}

#[tokio::test]
async fn most_endpoints_of_a_host_do_not_go_at_once_unless_its_own_verbs_remove_them() {
    let fed = filled(4).await;
    for number in 0..3 {
        fed.world.expect_removal(endpoint(10 + number).id);
    }
    let revision = fed.commit(removal(0..3)).await;
    fed.knows(revision).await;
    assert_eq!((fed.endpoints(), fed.world.held()), (1, None));

    let fed = filled(4).await;
    fed.commit(removal(0..3)).await;
    let why = fed.until(true).await.unwrap();
    assert!(why.contains("3 of this host's 4 endpoints"), "{why}");
    fed.world.accept(Source::Global);
    fed.until(false).await;
    assert_eq!(fed.endpoints(), 1);
}

#[tokio::test]
async fn a_person_who_removes_a_node_stands_behind_the_loss_of_its_endpoints() {
    let fed = filled(4).await;
    let removed = removal(0..4)
        .put(Key::Identity(Identity::Removed(testing::ME)), "1")
        .delete(Key::Member(testing::network().id, testing::ME));
    let revision = fed.commit(removed).await;
    fed.knows(revision).await;
    assert_eq!((fed.endpoints(), fed.world.held()), (0, None));
}

#[tokio::test]
async fn one_endpoint_that_others_disconnect_goes_and_one_whose_name_stays_was_deleted_by_hand() {
    let fed = filled(2).await;
    let revision = fed.commit(removal(0..1)).await;
    fed.knows(revision).await;
    assert_eq!((fed.endpoints(), fed.world.held()), (1, None));
    let last = Key::Endpoint(testing::network().id, endpoint(11).id);
    fed.commit(Commit::new().delete(last)).await;
    let why = fed.until(true).await.unwrap();
    assert!(why.contains("endpoint c11") && why.contains("its name is still there"), "{why}");
    assert_eq!(fed.endpoints(), 1);
    // That its name goes too does not make it a verb's.
    let name = Key::EndpointName(testing::network().id, endpoint(11).name);
    fed.commit(Commit::new().delete(name)).await;
    tokio::time::timeout(PATIENCE, async {
        while fed.world.held().is_none_or(|why| why.contains("its name is still there")) {
            drop(fed.world.hold_changes().changed().await);
        }
    })
    .await
    .expect("it is still held, for another reason");
    assert_eq!(fed.endpoints(), 1);
}

#[tokio::test]
async fn the_last_endpoint_of_a_host_that_goes_without_the_hosts_part_in_the_network_is_held() {
    let fed = filled(1).await;
    fed.commit(removal(0..1)).await;
    assert!(fed.until(true).await.unwrap().contains("1 of this host's 1 endpoints"));
    assert_eq!(fed.endpoints(), 1);
    // So it is for an agent that starts, whose kernel has the network.
    let evidence = Evidence { networks: [testing::network().id].into(), ..Evidence::default() };
    let started = start(&fed.store, evidence, Some(cluster(1)));
    assert!(started.until(true).await.unwrap().contains("in 1 of the 1 networks"));
}

#[tokio::test]
async fn a_network_that_is_deleted_by_hand_is_kept_as_long_as_it_has_endpoints() {
    let fed = filled(1).await;
    let network = testing::network().id;
    let revision = fed.commit(Commit::new().delete(Key::Network(network))).await;
    fed.knows(revision).await;
    let known =
        || fed.world.read(|intent| intent.network(network).is_some_and(|view| view.network().is_some()));
    assert!(known());
    assert_eq!(fed.world.doubts().len(), 1);
    fed.world.expect_removal(endpoint(10).id);
    let revision = fed.commit(removal(0..1).delete(Key::Member(network, testing::ME))).await;
    fed.knows(revision).await;
    assert!(!known() && fed.world.doubts().is_empty(), "nothing refers to it any more");
}

#[tokio::test]
async fn at_the_start_a_store_that_does_not_know_most_of_the_kernels_networks_is_held() {
    let ids = |numbers: std::ops::Range<u8>| numbers.map(|byte| NetworkId::from_bytes([byte; 32])).collect();
    let store = Store::embedded(&Embedded::open(None).unwrap());
    store.commit(records(1)).await.unwrap();
    let many = Evidence { networks: ids(1..5), ..Evidence::default() };
    let fed = start(&store, many.clone(), Some(cluster(1)));
    assert!(fed.until(true).await.unwrap().contains("4 of the 4 networks"));
    // A verb that was cut short may have left one or two.
    let few = Evidence { networks: ids(1..3), ..Evidence::default() };
    let fed = start(&store, few.clone(), Some(cluster(1)));
    fed.knows(1).await;
    assert_eq!(fed.world.held(), None);
    // But a store that this node has never met must know something of it.
    assert!(start(&store, few, None).until(true).await.is_some());
    let revision =
        store.commit(Commit::new().put(Key::Identity(Identity::Removed(testing::ME)), "1")).await.unwrap();
    let fed = start(&store, many, Some(cluster(1)));
    fed.knows(revision).await;
    assert_eq!(fed.world.held(), None, "a person removed this node");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_at_the_start_puts_its_network_in_doubt_until_it_can() {
    let store = Store::embedded(&Embedded::open(None).unwrap());
    let network = testing::network();
    store.commit(records(1)).await.unwrap();
    let revision = store.commit(Commit::new().put(Key::Network(network.id), "garbage")).await.unwrap();
    let fed = start(&store, Evidence::default(), None);
    fed.knows(revision).await;
    assert!(fed.world.in_doubt(network.id) && fed.world.host_in_doubt());
    let revision = fed.commit(Commit::new().put(Key::Network(network.id), network.to_bytes())).await;
    fed.knows(revision).await;
    assert!(!fed.world.in_doubt(network.id) && fed.world.doubts().is_empty());
}

/// A host whose kernel has so many endpoints of one network.
fn kernel_with(endpoints: u8) -> Evidence {
    let network = testing::network().id;
    let ends = (0..endpoints).map(|number| crate::drivers::port_of(endpoint(10 + number).id)).collect();
    Evidence { networks: [network].into(), endpoints: [(network, ends)].into(), ..Evidence::default() }
}

#[tokio::test]
async fn a_store_that_lost_most_endpoints_of_one_network_is_held_at_the_start() {
    // All kinds of records of the endpoints are gone, with the node's part in the network; the rest is there.
    for (kernel, left, held) in [(4, 0, true), (4, 1, true), (3, 0, true), (4, 3, false), (2, 0, false)] {
        let store = Store::embedded(&Embedded::open(None).unwrap());
        let member = Key::Member(testing::network().id, testing::ME);
        store.commit(records(left)).await.unwrap();
        store.commit(Commit::new().delete(member)).await.unwrap();
        let fed = start(&store, kernel_with(kernel), Some(cluster(1)));
        let revision = fed
            .commit(Commit::new().put(Key::Node(testing::OTHER), testing::node(testing::OTHER).to_bytes()))
            .await;
        if held {
            let why = fed.until(true).await.unwrap();
            let text = format!("no record of {} of this host's {kernel} endpoints", kernel - left);
            assert!(why.contains(&text), "{why}");
        } else {
            fed.knows(revision).await;
            assert_eq!(fed.world.held(), None, "{left} of {kernel}");
        }
    }
}

#[tokio::test]
async fn what_was_held_is_held_again_at_the_next_start_however_little_it_is() {
    let store = Store::embedded(&Embedded::open(None).unwrap());
    store.commit(records(1)).await.unwrap();
    let evidence = Evidence { held: true, ..kernel_with(2) };
    let fed = start(&store, evidence.clone(), Some(cluster(1)));
    let why = fed.until(true).await.unwrap();
    assert!(why.contains("no record of 1 of this host's 2 endpoints"), "{why}");
    // All that the kernel has is back.
    let back = Store::embedded(&Embedded::open(None).unwrap());
    let revision = back.commit(records(2)).await.unwrap();
    let fed = start(&back, evidence, Some(cluster(1)));
    fed.knows(revision).await;
    assert_eq!(fed.world.held(), None);
}
