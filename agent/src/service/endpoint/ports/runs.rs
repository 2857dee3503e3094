//! The ports that are known to be taken, so that each is checked only once.

use std::collections::BTreeMap;

/// Ports in runs: the first of each, and the last. No two runs touch.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<u16, u16>);

impl Runs {
    /// The first port from this one on that is in no run, or `None` if there is none.
    pub(super) fn next_out(&self, port: u16) -> Option<u16> {
        match self.0.range(..=port).next_back() {
            Some((_, last)) if *last >= port => last.checked_add(1),
            _ => Some(port),
        }
    }

    /// Add a port.
    pub(super) fn add(&mut self, port: u16) {
        if self.next_out(port) != Some(port) {
            return;
        }
        let after = port.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(port);
        match self.0.range_mut(..port).next_back().filter(|(_, last)| last.checked_add(1) == Some(port)) {
            Some((_, last)) => *last = after,
            None => {
                self.0.insert(port, after);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ports() -> impl Strategy<Value = u16> {
        prop_oneof![0..40u16, u16::MAX - 40..=u16::MAX]
    }

    proptest! {
        #[test]
        fn runs_are_the_set_of_what_was_added(added in prop::collection::vec(ports(), 0..80), asked in ports()) {
            let (mut runs, mut set) = (Runs::default(), BTreeSet::new());
            for port in added {
                runs.add(port);
                set.insert(port);
            }
            prop_assert_eq!(runs.next_out(asked), (asked..=u16::MAX).find(|port| !set.contains(port)));
            let ends: Vec<(u16, u16)> = runs.0.into_iter().collect();
            prop_assert!(ends.windows(2).all(|two| u32::from(two[0].1) + 1 < u32::from(two[1].0)), "{:?}", ends);
        }
    }
}
