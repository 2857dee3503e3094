//! Each kind of refusal, as a verb comes back with it. What the kernel lacks has its test in `local`.

use super::*;
use crate::ipam::SubnetRequest;

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
