//! The membership protocol (SWIM, Das, Gupta and Motivala 2002): its settings, and what its calls want done.

use std::{
    net::SocketAddr,
    num::{NonZeroU8, NonZeroU32, NonZeroUsize},
    time::Duration,
};

use bytes::Bytes;
use foca::{Config, OwnedNotification, PeriodicParams, Timer};

use super::{
    identity::Identity,
    wire::{MAX_SWIM, Packet},
};

/// Most members, those that are down included; what would be more is dropped.
pub(super) const MAX_MEMBERS: usize = 16_384;
/// The smallest cluster that the settings are made for.
const LEAST: u32 = 10;
/// Longest time from suspicion to failure.
const SUSPICION: Duration = Duration::from_secs(6);
/// Least number of times that each piece of news is passed on: in a small cluster a lost datagram weighs more.
const TRANSMISSIONS: NonZeroU8 = NonZeroU8::MIN.saturating_add(14);

/// Settings for a cluster of so many members: a probe each second, news within a fraction of a second, a failure known
/// within ten.
pub(super) fn settings(size: usize) -> Config {
    let size = NonZeroU32::new(u32::try_from(size).unwrap_or(u32::MAX).max(LEAST));
    let mut config = Config::new_lan(size.unwrap_or(NonZeroU32::MIN));
    config.max_transmissions = config.max_transmissions.max(TRANSMISSIONS);
    config.suspect_to_down_after = config.suspect_to_down_after.min(SUSPICION);
    config.max_packet_size = NonZeroUsize::new(MAX_SWIM).unwrap_or(config.max_packet_size);
    // The answer has a random part of what the other knows: in the end everybody knows everybody, whatever was lost.
    config.periodic_announce =
        Some(PeriodicParams { frequency: Duration::from_secs(5), num_members: NonZeroUsize::MIN });
    // After a partition the two halves find each other by this.
    config.periodic_announce_to_down_members = Some(PeriodicParams {
        frequency: Duration::from_secs(10),
        num_members: NonZeroUsize::MIN.saturating_add(2),
    });
    config
}

/// What one call of the protocol wants done.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) packets: Vec<(SocketAddr, Bytes)>,
    pub(super) timers: Vec<(Duration, Timer<Identity>)>,
    pub(super) notices: Vec<OwnedNotification<Identity>>,
}

impl foca::Runtime<Identity> for Effects {
    fn notify(&mut self, notification: foca::Notification<'_, Identity>) {
        self.notices.push(notification.to_owned());
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.packets.push((to.address, Packet::Swim(data).to_bytes()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((after, event));
    }
}
