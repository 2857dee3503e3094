//! The network `bridge` of this host, made as the settings have it.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    config::{BridgeConfig, BridgeLink},
    kernel::LinuxKernel,
    service::{DefaultBridge, Service},
};

/// First pause before the network `bridge` is tried again.
const BRIDGE_AGAIN: Duration = Duration::from_secs(2);

/// The network `bridge`, as it is configured.
pub(super) fn default_bridge(config: &BridgeConfig) -> DefaultBridge {
    let (wanted, link) = match config.link {
        BridgeLink::Own => (true, None),
        BridgeLink::Named(name) => (true, Some(name)),
        BridgeLink::None => (false, None),
    };
    DefaultBridge {
        wanted,
        link,
        addresses: config.addresses.clone(),
        ranges: config.ranges.clone(),
        gateways: config.gateways.clone(),
        mtu: config.mtu,
        icc: config.icc,
        masquerade: config.masquerade,
    }
}

/// Make the network `bridge` as it is configured, again until what it needs is there.
pub(super) async fn prepare_bridge(service: Arc<Service<LinuxKernel>>, stop: CancellationToken) {
    // Unknown is not empty: what is free is known once both stores have been read.
    tokio::select! {
        () = stop.cancelled() => return,
        () = service.until_read() => {}
    }
    let mut pause = BRIDGE_AGAIN;
    let mut told = String::new();
    // What was begun is one transaction: it is whole or not at all when it is cut short.
    loop {
        let done = tokio::select! {
            () = stop.cancelled() => return,
            done = service.prepare_bridge() => done,
        };
        let Err(error) = done else { break };
        let text = error.to_string();
        if text != told {
            tracing::warn!(error = %text, "cannot configure the network bridge: retrying");
            told = text;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(60)),
        }
    }
    stop.cancelled().await;
}
