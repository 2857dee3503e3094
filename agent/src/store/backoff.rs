//! How long to wait before the next try.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

/// Waiting times that double from `FIRST` to `CAP`, each shortened at random by up to a half, so that a thousand nodes
/// do not come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    tries: u32,
    random: SmallRng,
}

impl Backoff {
    /// The first wait.
    const FIRST: Duration = Duration::from_millis(100);
    /// The longest wait.
    pub(super) const CAP: Duration = Duration::from_secs(5);

    /// A fresh one; the seed decides the jitter.
    pub(super) fn new(seed: u64) -> Self {
        Self { tries: 0, random: SmallRng::seed_from_u64(seed) }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let full = Self::FIRST.saturating_mul(1 << self.tries.min(10)).min(Self::CAP);
        self.tries = self.tries.saturating_add(1);
        full.mul_f64(self.random.random_range(0.5..=1.0))
    }

    /// It worked: start again from the first wait.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn waits_grow_stay_under_the_cap_and_start_again(seed: u64, tries in 1usize..100) {
            let mut backoff = Backoff::new(seed);
            for _ in 0..tries {
                let wait = backoff.next();
                prop_assert!(wait >= Backoff::FIRST / 2 && wait <= Backoff::CAP);
            }
            backoff.reset();
            prop_assert!(backoff.next() <= Backoff::FIRST);
        }
    }
}
