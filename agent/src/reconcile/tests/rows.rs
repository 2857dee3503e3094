//! Changed rows against what was programmed come to the same as a full look at all of it.

use proptest::prelude::*;

use super::{
    drivers::{all, with},
    *,
};
use crate::model::{Protocol, PublishedPort};

/// What happens to a network's endpoints.
#[derive(Clone, Debug)]
enum Event {
    Come(u8),
    Go(u8),
    /// It is another by now.
    Change(u8),
    /// It has no sandbox yet, or no longer.
    Ahead(u8),
}

fn events() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let which = 2..6_u8;
    let event = prop_oneof![
        which.clone().prop_map(Event::Come),
        which.clone().prop_map(Event::Go),
        which.clone().prop_map(Event::Change),
        which.prop_map(Event::Ahead)
    ];
    prop::collection::vec(prop::collection::vec(event, 1..4), 1..8)
}

fn fact(network: &Network, event: &Event) -> Fact {
    let (Event::Come(number) | Event::Go(number) | Event::Change(number) | Event::Ahead(number)) = *event;
    let mut endpoint = endpoint(network, number, &format!("s{number}"));
    match event {
        Event::Come(_) => there(&endpoint),
        Event::Go(_) => gone(&endpoint),
        Event::Ahead(_) => {
            endpoint.sandbox = None;
            there(&endpoint)
        }
        Event::Change(_) => {
            endpoint.mac = Mac::internal(7, &[number]);
            endpoint.link_local = vec!["169.254.7.7".parse().unwrap()];
            endpoint.ports = vec![PublishedPort {
                protocol: Protocol::Tcp,
                host: None,
                host_port: 8_000 + u16::from(number),
                port: 80,
            }];
            there(&endpoint)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn rows_by_rows_a_network_comes_to_what_a_full_look_wants(rounds in events(), which in 0..all().len()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let network = all().swap_remove(which);
            let mut bench = with(&network, &["s2", "s3", "s4", "s5"]).await;
            for round in rounds {
                let facts = round.iter().map(|event| fact(&network, event)).collect();
                bench.say(source_of(&network), facts).await;
            }
            // At the end alone: a full look in between would set right what the rows have done.
            bench.check_whole().await;
        });
    }
}
