//! A published port against a DNAT by hand: connections per second from outside, each with one byte, interleaved rounds.
//!
//! Both ends on one CPU, as in `load`. The port by hand is on a host of its own, whose agent has no network: neither path
//! has the rules of the other.

use std::{
    env,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ovnet_integration::{
    lab::{Host, Lab, Service},
    program::Program,
};

use crate::{
    figure::{Bar, Figure, median, range},
    load::{SLICES, pin},
};

/// The host's port on both hosts, and the endpoint's.
const PORTS: (u16, u16) = (8080, 80);
/// Connections of one slice.
const CONNECTIONS: u32 = 250;
/// After this long a connection is lost.
const LOST: Duration = Duration::from_secs(1);
/// Rounds differ by a few per cent on a quiet machine; "not below" means not below by more than this.
const NOISE: f64 = 0.05;

/// The same by hand: a namespace on a bridge, and a rule. Replies go back the way they came.
const BY_HAND: &str = "
sysctl -qw net.ipv4.ip_forward=1
ip netns add base-web
ip link add base-br type bridge
ip address add 10.201.0.1/24 dev base-br
ip link set base-br up
ip link add base-out type veth peer name eth0 netns base-web
ip link set base-out master base-br up
ip -n base-web link set lo up
ip -n base-web address add 10.201.0.2/24 dev eth0
ip -n base-web link set eth0 up
ip -n base-web route add default via 10.201.0.1
nft add table ip base
nft 'add chain ip base prerouting { type nat hook prerouting priority -100; }'
nft 'add rule ip base prerouting fib daddr type local tcp dport 8080 dnat to 10.201.0.2:80'
";

const UNDO: &str = "
nft delete table ip base
ip netns del base-web
ip link del base-br
";

/// Answer each connection with a byte, and close it.
pub(crate) fn serve(port: u16) -> Result<()> {
    pin()?;
    let listener = TcpListener::bind(("0.0.0.0", port)).context("listen")?;
    let mut out = io::stdout();
    writeln!(out, "ready").and_then(|()| out.flush()).context("say that it is ready")?;
    for connection in listener.incoming() {
        // A client that goes away is counted by nobody.
        connection.and_then(|mut connection| connection.write_all(b"x")).ok();
    }
    Ok(())
}

/// Connect again and again, and print how many connections a second has in the best slice.
pub(crate) fn load(address: SocketAddr) -> Result<()> {
    pin()?;
    let mut best: f64 = 0.0;
    for _slice in 0..SLICES {
        let start = Instant::now();
        for _connection in 0..CONNECTIONS {
            let mut connection = TcpStream::connect_timeout(&address, LOST).context("connect")?;
            connection.read_exact(&mut [0]).context("read the byte")?;
        }
        best = best.max(f64::from(CONNECTIONS) / start.elapsed().as_secs_f64());
    }
    let mut out = io::stdout();
    writeln!(out, "{best}").context("print")
}

fn server(host: &Host, sandbox: &str) -> Result<Service> {
    let exe = env::current_exe().context("find this program")?;
    let program = host.sandbox_program(sandbox, &exe.to_string_lossy());
    Service::start(program.args(["answer", &PORTS.1.to_string()]), "ready")
}

fn rate(client: Program, host: &Host) -> Result<f64> {
    let done = client.args(["connect", &format!("{}:{}", host.address_v4(), PORTS.0)]).ok()?;
    done.text().parse().with_context(|| format!("the client's figure: {}", done.stdout))
}

/// Ours on the first host, by hand on the second, from outside.
pub(crate) fn compare(lab: &Lab, rounds: u32) -> Result<Figure> {
    let (ours, by_hand) = (lab.host(1)?, lab.host(2)?);
    ours.ovctl_ok(&["network", "create", "-d", "bridge", "--subnet", "10.201.0.0/24", "front"])?;
    let publish = format!("{}:{}", PORTS.0, PORTS.1);
    ours.ovctl_ok(&["sandbox", "create", "--network", "front", "-p", &publish, "web"])?;
    by_hand.exec_ok(&["sh", "-ec", BY_HAND])?;
    let _servers = [server(ours, "web")?, server(by_hand, "base-web")?];
    let exe = env::current_exe().context("find this program")?;
    let from_outside = |host| rate(lab.outside.program(&exe.to_string_lossy()), host);
    let mut pairs = Vec::new();
    for round in 0..rounds {
        pairs.push(if round % 2 == 0 {
            let own = from_outside(ours)?;
            (own, from_outside(by_hand)?)
        } else {
            let base = from_outside(by_hand)?;
            (from_outside(ours)?, base)
        });
    }
    let ratios: Vec<f64> = pairs.iter().map(|(own, base)| own / base).collect();
    let (own, base): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    ours.ovctl_ok(&["sandbox", "rm", "-f", "web"])?;
    ours.ovctl_ok(&["network", "rm", "front"])?;
    by_hand.exec_ok(&["sh", "-ec", UNDO])?;
    let note = format!(
        "{:.1}k/s against {:.1}k/s; {} rounds, {}",
        median(&own) / 1000.0,
        median(&base) / 1000.0,
        ratios.len(),
        range(&ratios)
    );
    Ok(Figure {
        name: "connections/s to a published port, ours against a DNAT by hand".into(),
        value: median(&ratios),
        unit: "x",
        bar: Bar::AtLeast(1.0 - NOISE),
        note,
    })
}
