//! `bench`: how long an attach takes, what is lost after it, and what the overlay costs against the same data path
//! made by hand, in one run. Prints a table, and JSON with `--json FILE`.
//!
//! To be built with `--release`; `make bench` does. The figures of one machine compare with each other only.

mod attach;
mod baseline;
mod connects;
mod crowd;
mod dns;
mod figure;
mod load;
mod ports;
mod readme;
mod traffic;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use figure::Figure;
use ovnet_integration::{
    binaries::Binaries,
    enter::{self, Disk},
    lab::Lab,
};

/// What is measured, and how often.
#[derive(Debug, Parser)]
#[command(version, about = "Measure ovnet in a lab of two hosts")]
struct Arguments {
    /// Also write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the figures into this page (docs/COMPARISON.md), between bench:begin and bench:end
    #[arg(long, value_name = "FILE")]
    readme: Option<PathBuf>,
    /// Leave out what takes minutes: hosts with hundreds of networks and namespaces
    #[arg(long)]
    quick: bool,
    /// Attaches that are timed, of each kind
    #[arg(long, default_value_t = 100)]
    connects: u32,
    /// Rounds of traffic, each over the overlay and over the baseline
    #[arg(long, default_value_t = 11)]
    rounds: u32,
    /// Measure the baseline against itself, without agents: how much the figures of this machine spread
    #[arg(long)]
    noise: bool,
    /// Measure the resolver of sandboxes alone
    #[arg(long, conflicts_with = "noise")]
    dns: bool,
    /// Exit with status 1 if a bar is missed
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The other ends of the traffic: processes in sandboxes, started by the bench itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Answer a client's traffic
    #[command(hide = true)]
    Serve {
        /// Where to listen
        address: SocketAddr,
    },
    /// Answer each connection with a byte
    #[command(hide = true)]
    Answer {
        /// Where to listen
        port: u16,
    },
    /// Connect to a server and print how many connections a second has
    #[command(hide = true)]
    Connect {
        /// Where the server is
        address: SocketAddr,
    },
    /// Ask a name server and print the figures as JSON
    #[command(hide = true)]
    Ask {
        /// Where it is
        server: SocketAddr,
        /// What for
        name: String,
    },
    /// Send traffic to a server and print the figures as JSON
    #[command(hide = true)]
    Load {
        /// Where the server is
        address: SocketAddr,
    },
}

fn main() -> ExitCode {
    match bench() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<bool> {
    let arguments = Arguments::parse();
    match arguments.part {
        Some(Part::Serve { address }) => return load::serve(address).map(|()| true),
        Some(Part::Load { address }) => return load::load(address).map(|()| true),
        Some(Part::Ask { server, name }) => return dns::load(server, &name).map(|()| true),
        Some(Part::Answer { port }) => return connects::serve(port).map(|()| true),
        Some(Part::Connect { address }) => return connects::load(address).map(|()| true),
        None => {}
    }
    if enter::is_outside() && !arguments.noise {
        Binaries::find()?;
    }
    // etcd and the agents write to a real disk: a flush to memory would flatter the attach.
    let place = |file: &Option<PathBuf>| file.as_ref().map(std::path::absolute).transpose();
    let json = place(&arguments.json).context("the path of the JSON file")?;
    let readme = place(&arguments.readme).context("the path of the page")?;
    let environment = readme::Environment::read()?;
    enter::enter_with(Disk::Yes)?;
    let lab = Lab::builder()
        .hosts(2)
        .etcd(!arguments.noise)
        .agents(!arguments.noise)
        .disk(enter::disk())
        .build()?;
    let figures = if arguments.noise {
        traffic::compare(&lab, traffic::Against::Itself, arguments.rounds)
    } else if arguments.dns {
        dns::compare(&lab, arguments.rounds)
    } else {
        measure(&lab, &arguments)
    };
    let figures = figures.inspect_err(|_error| {
        eprintln!("{}", lab.report());
    })?;
    drop(lab);
    figure::print(&figures)?;
    if let Some(path) = json {
        figure::write(&figures, &environment, &path)?;
    }
    if let Some(path) = readme {
        let how = format!("{} rounds, {} attaches of each kind", arguments.rounds, arguments.connects);
        readme::write(&figures, &how, &environment, &path)?;
    }
    Ok(!arguments.check || figures.iter().all(|figure| figure.met() != Some(false)))
}

fn measure(lab: &Lab, arguments: &Arguments) -> Result<Vec<Figure>> {
    let (connects, rounds) = (arguments.connects, arguments.rounds);
    let mut figures = vec![attach::idle_memory(lab)?];
    // On hosts that have no other network yet: the rules of one would be in the way of the other.
    eprintln!(
        "{rounds} rounds of connections to a published port, ours and by hand; 1,000 published ports ..."
    );
    figures.push(connects::compare(lab, rounds)?);
    figures.extend(ports::measure(lab)?);
    eprintln!("{rounds} rounds of questions to the resolver and to dnsmasq ...");
    figures.extend(dns::compare(lab, rounds)?);
    lab.create_network(&["--subnet", "10.9.0.0/16", "bench"])?;
    for host in &lab.hosts {
        host.create_sandbox(&host.own("resident"), &["bench"])?;
    }
    eprintln!("{connects} attaches by ovctl, {connects} by the API ...");
    figures.extend(attach::attaches(lab, connects)?);
    eprintln!("{rounds} rounds of traffic over the overlay and over the baseline ...");
    figures.extend(traffic::compare(lab, traffic::Against::Overlay, rounds)?);
    if !arguments.quick {
        eprintln!("attaches with hundreds of networks, sandboxes beside a thousand namespaces: minutes ...");
        figures.extend(crowd::networks(lab)?);
        figures.push(crowd::namespaces(lab)?);
    }
    Ok(figures)
}
