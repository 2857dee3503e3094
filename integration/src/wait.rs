//! Waiting for a condition, with a limit: nothing in the lab sleeps for a time and hopes.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Shortest and longest pause between two looks.
const PAUSE: (Duration, Duration) = (Duration::from_micros(300), Duration::from_millis(25));

/// What a look has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll<T> {
    /// The condition holds.
    Ready(T),
    /// It does not yet; what was seen instead, for the error.
    Pending(String),
}

/// Look until `look` is ready, and say what was seen last if it is not within `limit`.
///
/// # Errors
/// The limit has passed; or `look` failed, which ends the waiting at once.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Poll<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    let mut pause = PAUSE.0;
    loop {
        let late = Instant::now() >= end;
        match look()? {
            Poll::Ready(value) => return Ok(value),
            Poll::Pending(seen) if late => bail!("waited {limit:?} for {what}, last seen: {seen}"),
            Poll::Pending(_seen) => thread::sleep(pause),
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// [`wait_for`] a plain yes or no.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, limit, || Ok(if holds()? { Poll::Ready(()) } else { Poll::Pending("not so".into()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_condition_or_tells_what_was_seen() {
        let mut looks = 0;
        let value = wait_for("three looks", Duration::from_secs(5), || {
            looks += 1;
            Ok(if looks == 3 { Poll::Ready(looks) } else { Poll::Pending(format!("{looks} looks")) })
        });
        assert_eq!(value.unwrap(), 3);
        let error = wait_for::<()>("rain", Duration::ZERO, || Ok(Poll::Pending("sun".into()))).unwrap_err();
        assert!(error.to_string().contains("for rain, last seen: sun"), "{error}");
    }
}
