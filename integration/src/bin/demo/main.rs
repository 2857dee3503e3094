//! `demo`: three hosts, two networks on one subnet, and an agent that is killed under traffic, in under a minute.
//!
//! All of it happens in namespaces of this process's own and is gone when it ends. Exit status 1, with the reason, if
//! anything that it shows is not true.

mod show;
mod story;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use ovnet_integration::{binaries::Binaries, enter, lab::Lab};
use show::Show;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    if enter::is_outside() {
        // Before anything is built up.
        Binaries::find()?;
    }
    enter::enter()?;
    let start = Instant::now();
    let mut show = Show::new();
    show.title(
        "A lab: three hosts in network namespaces, an underlay between them, etcd, and an agent on each",
    )?;
    let lab = Lab::builder().build()?;
    if let Err(error) = story::tell(&lab, &mut show) {
        eprintln!("{}", lab.report());
        return Err(error);
    }
    drop(lab);
    show.title(&format!("All is cleaned up; it took {:.1} s", start.elapsed().as_secs_f64()))
}
