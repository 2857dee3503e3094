//! What somebody else has already: VNIs and UDP ports.

use std::time::Instant;

use ovagent::{
    kernel::{Kernel, LinuxKernel},
    plan::op::{LinkOp, NetnsOp, Op},
};

use super::objects::{NETNS_DIR, Outcome, apply, mark, named, new, sh, told, vxlan};

pub(super) async fn vni_in_use() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-vni");
    sh("ip link add ok-vni type vxlan id 7010 dstport 14790 local 127.0.0.1")?;
    let device = new(&netns, "vxlan0", 1);
    let ops = vec![
        Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
        Op::AddLink(device.clone(), vxlan(7010, "127.0.0.1")),
        Op::Link(device.at, LinkOp::SetUp(true)),
    ];
    let outcome = kernel.apply(ops).await;
    sh("ip link del ok-vni")?;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    let text = outcome.err().map(|error| error.to_string()).unwrap_or_default();
    told(text.starts_with("1 of 3 steps failed") && text.contains("specified VNI already exists"), || text)
}

/// By a process, and by a vxlan device whose socket cannot be shared.
pub(super) async fn port_in_use() -> Outcome {
    let kernel = LinuxKernel::new(NETNS_DIR);
    let netns = named("ovk-port");
    let device = new(&netns, "vxlan0", 1);
    let up = || vec![Op::Link(device.at.clone(), LinkOp::SetUp(true))];
    apply(
        &kernel,
        vec![
            Op::Netns(netns.clone(), NetnsOp::Add(mark("netns"))),
            Op::AddLink(device.clone(), vxlan(7011, "127.0.0.1")),
        ],
    )
    .await?;
    let failed = |error: std::io::Error| error.to_string();
    let refusal =
        || async { kernel.apply(up()).await.err().map(|error| error.to_string()).unwrap_or_default() };
    let socket = std::net::UdpSocket::bind("127.0.0.1:14790").map_err(failed)?;
    let start = Instant::now();
    let by_process = refusal().await;
    let waited = start.elapsed();
    drop(socket);
    sh("ip link add ok-port type vxlan dstport 14790 external; ip link set ok-port up")?;
    let by_device = refusal().await;
    sh("ip link del ok-port")?;
    // With the port free, the same step does it.
    let outcome = apply(&kernel, up()).await;
    apply(&kernel, vec![Op::Netns(netns, NetnsOp::Remove)]).await?;
    let program = std::fs::read_to_string("/proc/self/comm").map_err(failed)?;
    let holder = format!("UDP port 14790 is in use by {} (pid {})", program.trim(), std::process::id());
    told(by_process.contains(&holder) && by_process.contains("--vxlan-port"), || by_process)?;
    // There is nothing to wait for.
    told(waited.as_millis() < 1000, || format!("it took {waited:?}"))?;
    told(by_device.contains("UDP port 14790 is in use by the vxlan device ok-port"), || by_device)?;
    outcome
}
