//! A second client, that asks for the version again and again while the agent is at work for another one: how long it waits.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Result, anyhow};

use crate::lab::Host;

/// Do `work`, and tell what the second client waited meanwhile for each of its answers, in milliseconds.
///
/// # Errors
/// Those of `work`; the agent does not answer the second client.
pub fn waits<T>(host: &Host, work: impl FnOnce() -> Result<T>) -> Result<(T, Vec<f64>)> {
    let api = host.api()?;
    // The connection is made, so that no wait has it in it.
    api.version()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut waits = Vec::new();
            loop {
                // Looked at first: the wait that is under way when the work is done belongs to it.
                let last = over.load(Ordering::Relaxed);
                let start = Instant::now();
                api.version()?;
                waits.push(start.elapsed().as_secs_f64() * 1000.0);
                if last {
                    return Ok::<_, anyhow::Error>(waits);
                }
            }
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let waits = client.join().map_err(|_panic| anyhow!("the second client died"))??;
        Ok((done?, waits))
    })
}

/// The longest of some waits; 0 of none.
pub fn longest(waits: &[f64]) -> f64 {
    waits.iter().copied().fold(0.0, f64::max)
}
