//! Each kind of refusal, as a verb comes back with it. What the kernel lacks has its test in `local`.

use tokio::net::TcpListener;

use super::*;
use crate::{ipam::SubnetRequest, store::EtcdConfig};

fn kind<T: std::fmt::Debug>(result: Result<T, ServiceError>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn a_refusal_is_of_the_kind_that_its_reason_is() {
    let host = Host::start().await;
    let smallest = SubnetRequest { subnets: vec!["10.9.0.0/30".into()], ..SubnetRequest::default() };
    host.make(("bridge", "lan"), &[], |request| request.subnets = smallest).await.unwrap();
    host.empty("box").await;
    host.empty("other").await;
    host.connect(("box", "lan"), |_| ()).await.unwrap();
    assert_eq!(kind(host.make(("bridge", "a b"), &[], |_| ()).await), ErrorKind::Invalid);
    assert_eq!(kind(host.service.remove_network("nobody").await), ErrorKind::Unknown);
    assert_eq!(kind(host.make(("bridge", "lan"), &[], |_| ()).await), ErrorKind::Exists);
    assert_eq!(kind(host.service.remove_network("lan").await), ErrorKind::State);
    assert_eq!(kind(host.connect(("other", "lan"), |_| ()).await), ErrorKind::Exhausted);
    let service = Arc::clone(&host.service);
    host.end().await;
    assert_eq!(kind(service.diff("").await), ErrorKind::Busy, "the loop has ended");
}

#[tokio::test]
async fn a_store_that_the_loop_does_not_reach_is_away_and_the_kernel_has_refused_nothing() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = EtcdConfig { endpoints: vec![nobody.to_string()], ..EtcdConfig::default() };
    let ground = Ground { of_loop: Some(Store::etcd(&config).unwrap()), ..Ground::new() };
    let host = ground.start(None).await;
    host.network("net").await;
    host.empty("box").await;
    let error = host.connect(("box", "net"), |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Away, "{error}");
    let text = error.to_string();
    let expected = format!("this host cannot be looked at: the store at {nobody} does not answer");
    assert!(text.starts_with(&expected), "{text}");
    assert_eq!(host.left().await, ["/ovnet/local/v1/sandboxes/box"], "nothing half-done stays");
    host.end().await;
}
