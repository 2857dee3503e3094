//! The attach: its time as a user of `ovctl` and of the API has it, what is lost after it, and the agent's memory.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ovnet_integration::{
    api::{self, Api},
    binaries::Binaries,
    lab::{From, Host, Lab},
    probe::Prober,
    program::Program,
};

use crate::figure::{Bar, Figure, median, range};

/// Attaches that are not counted: the first ones of a process load pages and open connections.
const WARM_UP: u32 = 5;
/// After this long a packet is lost.
const LOST: Duration = Duration::from_millis(500);

/// Resident memory of an agent that has nothing to do; the larger of the hosts'.
pub(crate) fn idle_memory(lab: &Lab) -> Result<Figure> {
    let (value, note) = memory(lab)?;
    Ok(Figure { name: "memory of an idle agent".into(), value, unit: "MB", bar: Bar::AtMost(20.0), note })
}

fn memory(lab: &Lab) -> Result<(f64, String)> {
    let kib = lab.hosts.iter().map(Host::agent_rss).collect::<Result<Vec<_>>>()?;
    let most = kib.iter().copied().max().unwrap_or_default();
    let most = u32::try_from(most).context("a size")?;
    Ok((f64::from(most) / 1000.0 * 1.024, format!("VmRSS, {kib:?} KiB")))
}

/// Who checks that the new endpoint is there.
struct Witnesses {
    probers: Vec<Prober>,
    residents: Vec<IpAddr>,
    sent: u32,
    lost: u32,
}

/// Times of attaches on a network that both hosts have, and the packets lost afterwards.
pub(crate) fn attaches(lab: &Lab, count: u32) -> Result<Vec<Figure>> {
    let host = lab.host(1)?;
    let api = host.api()?;
    let mut witnesses = Witnesses::new(lab)?;
    let (mut by_ovctl, mut by_api) = (Vec::new(), Vec::new());
    for round in 0..2 * (count + WARM_UP) {
        let name = format!("new{round}");
        host.create_sandbox(&name, &[])?;
        let mut own = host.prober(From::Sandbox(&name))?;
        let (took, at) = if round % 2 == 0 { ovctl(host, &name)? } else { call(&api, &name)? };
        witnesses.look(&mut own, &host.address("bench", &name)?)?;
        drop(own);
        host.ovctl_ok(&["sandbox", "rm", "-f", &name])?;
        if round >= 2 * WARM_UP {
            at.push(&mut by_ovctl, &mut by_api, took);
        }
    }
    let figure = |name: &str, times: &[f64], bar| Figure {
        name: name.into(),
        value: median(times),
        unit: "ms",
        bar,
        note: format!("median of {}, {}", times.len(), range(times)),
    };
    let (value, note) = memory(lab)?;
    Ok(vec![
        figure("connect, as ovctl's user waits", &by_ovctl, Bar::AtMost(15.0)),
        figure("connect, by the API", &by_api, Bar::AtMost(15.0)),
        Figure {
            name: "packets lost after connect".into(),
            value: f64::from(witnesses.lost),
            unit: "",
            bar: Bar::AtMost(0.0),
            note: format!("of {}, to and from the new endpoint", witnesses.sent),
        },
        Figure { name: "memory after the attaches".into(), value, unit: "MB", bar: Bar::None, note },
    ])
}

/// How an attach was asked for.
enum By {
    Ovctl,
    Api,
}

impl By {
    fn push(self, ovctl: &mut Vec<f64>, api: &mut Vec<f64>, took: Duration) {
        let times = match self {
            Self::Ovctl => ovctl,
            Self::Api => api,
        };
        times.push(took.as_secs_f64() * 1000.0);
    }
}

fn ovctl(host: &Host, name: &str) -> Result<(Duration, By)> {
    // Not through the host's namespaces: the socket is a file, and entering is the lab's cost.
    let socket = format!("unix://{}", host.socket().display());
    let program = Program::new(Binaries::find()?.ovctl);
    let done = program.args(["--host", &socket, "network", "connect", "bench", name]).ok()?;
    Ok((done.took, By::Ovctl))
}

fn call(api: &Api, name: &str) -> Result<(Duration, By)> {
    let start = Instant::now();
    api.connect("bench", name)?;
    Ok((start.elapsed(), By::Api))
}

impl Witnesses {
    fn new(lab: &Lab) -> Result<Self> {
        let (mut probers, mut residents) = (Vec::new(), Vec::new());
        for host in &lab.hosts {
            probers.push(host.prober(From::Host)?);
            probers.push(host.prober(From::Sandbox(&host.own("resident")))?);
            let endpoint = host.endpoint("bench", &host.own("resident"))?;
            residents.push(api::address(&endpoint, false).context("no address")?.parse()?);
        }
        Ok(Self { probers, residents, sent: 0, lost: 0 })
    }

    fn look(&mut self, own: &mut Prober, address: &str) -> Result<()> {
        let new: IpAddr = address.parse()?;
        for prober in &mut self.probers {
            self.sent += 1;
            self.lost += u32::from(prober.probe(new, LOST)?.is_none());
        }
        for resident in &self.residents {
            self.sent += 1;
            self.lost += u32::from(own.probe(*resident, LOST)?.is_none());
        }
        Ok(())
    }
}
