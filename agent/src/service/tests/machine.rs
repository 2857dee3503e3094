//! The machine is the kernel's: its processes and ports are looked for there, and not where the tests run.

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use super::*;
use crate::model::Protocol;

/// Larger than any pid that the kernel gives out (PID_MAX_LIMIT, 2^22).
const PID: u32 = 0x8000_0001;

fn adopting(name: &str, pid: u32) -> SandboxSpec {
    SandboxSpec { name: name.parse().ok(), adopt: Some(Adopt::Pid(pid)), ..SandboxSpec::default() }
}

fn own_netns(host: &Host, pid: u32) -> Netns {
    Netns::Path(host.kernel.netns_of(pid))
}

#[tokio::test]
async fn only_processes_of_the_kernel_in_memory_are_there() {
    let host = Host::start().await;
    let start = host.kernel.start_process(PID, own_netns(&host, PID));
    let adopted = host.service.create_sandbox(adopting("box", PID)).await.unwrap().sandbox;
    assert_eq!((adopted.process, adopted.netns), (Some((PID, start)), host.kernel.netns_of(PID)));
    let ours = std::process::id();
    let error = refusal(host.service.create_sandbox(adopting("tests", ours)).await);
    assert!(error.contains("there is no such process"), "{error}");
    host.kernel.start_process(PID + 1, Netns::Host);
    let error = refusal(host.service.create_sandbox(adopting("host", PID + 1)).await);
    assert!(error.contains("it is the host's own network namespace"), "{error}");
    host.end().await;
}

#[tokio::test]
async fn a_sandbox_goes_with_the_process_that_it_was_adopted_from() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    host.kernel.start_process(PID, own_netns(&host, PID));
    host.service.create_sandbox(adopting("box", PID)).await.unwrap();
    host.connect(("box", "lan"), |_| ()).await.unwrap();
    let janitor = host.janitor();
    assert_eq!(host.service.sandbox("box").await.unwrap().state, SandboxState::Up);
    host.kernel.end_process(PID);
    host.until_no_sandboxes().await;
    assert_eq!(host.left().await, [""; 0]);
    host.end().await;
    janitor.await.unwrap();
}

#[tokio::test]
async fn a_sandbox_with_a_process_in_it_is_removed_only_by_force() {
    let host = Host::start().await;
    host.empty("box").await;
    host.kernel.start_process(PID, Netns::Named("box".parse().unwrap()));
    let error = refusal(host.service.remove_sandbox("box", false).await);
    assert!(error.contains(&format!("1 process still runs in sandbox box (pid {PID})")), "{error}");
    host.service.remove_sandbox("box", true).await.unwrap();
    assert_eq!(host.left().await, [""; 0]);
    host.end().await;
}

#[tokio::test]
async fn a_port_that_something_else_on_this_machine_has_is_free_in_memory() {
    let host = Host::start().await;
    host.make(("bridge", "lan"), &[], |_| ()).await.unwrap();
    host.empty("box").await;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let taken = listener.local_addr().unwrap().port();
    let spec = PortSpec { protocol: Protocol::Tcp, host: None, host_ports: Some(taken..=taken), port: 80 };
    let ask = || {
        let spec = spec.clone();
        |attach: &mut AttachSpec| attach.ports = vec![spec]
    };
    let endpoint = host.connect(("box", "lan"), ask()).await.unwrap();
    assert_eq!(endpoint.ports[0].host_port, taken);
    host.service.disconnect("lan", "box", false).await.unwrap();
    host.kernel.listen(Protocol::Tcp, IpAddr::V4(Ipv4Addr::UNSPECIFIED), taken, "nginx (pid 78)");
    let error = refusal(host.connect(("box", "lan"), ask()).await);
    assert!(error.contains("is taken by nginx (pid 78)"), "{error}");
    host.end().await;
}
