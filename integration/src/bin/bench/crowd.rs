//! Attaches on a host that has very many networks, and sandboxes made on one that has very many namespaces: what others are
//! there must not be felt.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ovnet_integration::{
    api::Api,
    lab::{Host, Lab},
    meanwhile::longest,
};
use ovnet_proto::v1 as ov;

use crate::figure::{Bar, Figure, median, range};

/// Networks of the host when another one is removed, and when it is attached to for long.
const NETWORKS: (u32, u32) = (100, 200);
/// Attaches after the removal of a network, and as many without one.
const TIMES: u32 = 21;
/// How long is attached and detached without a pause: two looks at everything are in it.
const STEADY: Duration = Duration::from_secs(120);
/// Namespaces of others.
const NAMESPACES: u32 = 1000;
/// Sandboxes that are made beside them, and as many without them.
const SANDBOXES: u32 = 51;

/// Both figures of a host with many networks, on the first host, which is left as it was.
pub(crate) fn networks(lab: &Lab) -> Result<Vec<Figure>> {
    let host = lab.host(1)?;
    let api = host.api()?;
    let (few, many) = NETWORKS;
    host.create_sandbox("visitor", &[])?;
    for number in 0..few {
        inhabit(host, number)?;
    }
    let after_removal = after_removal(host, &api)?;
    for number in few..many {
        inhabit(host, number)?;
    }
    let steady = steady(&api)?;
    host.ovctl_ok(&["sandbox", "rm", "-f", "visitor"])?;
    for number in 0..many {
        host.ovctl_ok(&["sandbox", "rm", "-f", &format!("crowd{number}")])?;
        host.ovctl_ok(&["network", "rm", &format!("crowd{number}")])?;
    }
    Ok(vec![after_removal, steady])
}

/// A network with a sandbox on it.
fn inhabit(host: &Host, number: u32) -> Result<()> {
    let name = format!("crowd{number}");
    let subnet = format!("10.{}.{}.0/24", 210 + number / 250, number % 250);
    host.ovctl_ok(&["network", "create", "-d", "overlay", "--subnet", &subnet, &name])?;
    host.create_sandbox(&name, &[&name])
}

/// Attach the visitor, and detach it; how long the attach took, in milliseconds.
fn visit(api: &Api, network: &str) -> Result<f64> {
    let start = Instant::now();
    api.connect(network, "visitor")?;
    let took = milliseconds(start);
    api.disconnect(network, "visitor")?;
    Ok(took)
}

fn after_removal(host: &Host, api: &Api) -> Result<Figure> {
    let (mut after, mut without) = (Vec::new(), Vec::new());
    for _time in 0..TIMES {
        without.push(visit(api, "crowd0")?);
        host.ovctl_ok(&["network", "create", "-d", "overlay", "--subnet", "10.219.0.0/24", "gone"])?;
        visit(api, "gone")?;
        let request = ov::RemoveNetworkRequest { network: "gone".into() };
        api.call(|mut agent| async move { agent.remove_network(request).await })?;
        after.push(visit(api, "crowd0")?);
    }
    Ok(Figure {
        name: format!("attach after an unrelated network rm, with {} networks", NETWORKS.0),
        value: median(&after),
        unit: "ms",
        bar: Bar::AtMost(15.0),
        note: format!(
            "median of {TIMES}, {}; {:.2} ms without the rm, {}",
            range(&after),
            median(&without),
            range(&without)
        ),
    })
}

fn steady(api: &Api) -> Result<Figure> {
    let (start, mut times) = (Instant::now(), Vec::new());
    let names: Vec<String> = (0..NETWORKS.1).map(|number| format!("crowd{number}")).collect();
    for name in names.iter().cycle() {
        if start.elapsed() >= STEADY {
            break;
        }
        times.push(visit(api, name)?);
    }
    Ok(Figure {
        name: format!(
            "longest attach of {} s without a pause, with {} networks",
            STEADY.as_secs(),
            NETWORKS.1
        ),
        value: longest(&times),
        unit: "ms",
        bar: Bar::AtMost(100.0),
        note: format!("of {}, {:.2} ms in the median", times.len(), median(&times)),
    })
}

/// How long a sandbox takes beside namespaces of others, on the last host.
pub(crate) fn namespaces(lab: &Lab) -> Result<Figure> {
    let host = lab.hosts.last().context("a host")?;
    let api = host.api()?;
    let without = sandboxes(host, &api)?;
    let each = |command: &str| {
        let script = format!("i=0; while [ $i -lt {NAMESPACES} ]; do {command}$i; i=$((i+1)); done");
        host.program("sh").args(["-ec", &script]).limit(Duration::from_secs(120)).ok()
    };
    each("ip netns add other")?;
    host.wait_in_sync()?;
    let beside = sandboxes(host, &api)?;
    each("ip netns del other")?;
    Ok(Figure {
        name: format!("sandbox create beside {NAMESPACES} namespaces of others"),
        value: median(&beside),
        unit: "ms",
        bar: Bar::AtMost(7.0),
        note: format!(
            "median of {SANDBOXES}, {}; {:.2} ms without them, {}",
            range(&beside),
            median(&without),
            range(&without)
        ),
    })
}

fn sandboxes(host: &Host, api: &Api) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for number in 0..SANDBOXES {
        let name = format!("lone{number}");
        let request = ov::CreateSandboxRequest { name: name.clone(), ..ov::CreateSandboxRequest::default() };
        let start = Instant::now();
        api.call(|mut agent| async move { agent.create_sandbox(request).await })?;
        times.push(milliseconds(start));
        host.ovctl_ok(&["sandbox", "rm", "-f", &name])?;
    }
    Ok(times)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
