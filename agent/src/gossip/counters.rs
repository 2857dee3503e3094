//! What happened to datagrams, counted.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters since the agent's start. Each is read by itself: together they are no snapshot.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(pub(super) $name: Count,)*
        }

        impl Counters {
            $($(#[$doc])* pub fn $name(&self) -> u64 { self.$name.0.load(Ordering::Relaxed) })*

            /// All of them by name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name())),*]
            }
        }
    };
}

counters! {
    /// Datagrams that came in.
    received,
    /// Datagrams that do not parse: foreign, damaged, of another version, too long.
    malformed,
    /// Datagrams that parse and were not used: from ourselves, or too many members.
    dropped,
    /// Datagrams of those that the store does not have as nodes, or has at another address.
    refused,
    /// Datagrams that went out.
    sent,
    /// Datagrams that the kernel refused to send.
    unsent,
    /// Questions that came in.
    asked,
    /// Answers to questions that went out.
    answered,
    /// Questions that came in and were forgotten because there were too many.
    forgotten,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
