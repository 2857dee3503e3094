//! Answers: nouns, and what `service` says of them, as messages.

use ovnet_proto::v1;

use crate::service::{
    AgentState, Difference, EndpointDetail, NetworkDetail, NodeState, SandboxDetail, StoreState,
};

use super::About;

/// One network with its endpoints, its nodes, and what is used of it.
pub(super) fn network(detail: NetworkDetail<v1::Endpoint>) -> v1::InspectNetworkResponse {
    let usage = detail.usage.into_iter().map(|(prefix, usage)| v1::SubnetUsage {
        prefix: prefix.to_string(),
        total: usage.total.to_string(),
        used: usage.used.to_string(),
        free: usage.free.to_string(),
    });
    v1::InspectNetworkResponse {
        network: Some((&detail.network).into()),
        endpoints: detail.endpoints,
        members: detail.members.iter().map(Into::into).collect(),
        nodes: detail.nodes.iter().map(Into::into).collect(),
        usage: usage.collect(),
        mtu: detail.mtu.unwrap_or_default(),
        here: detail.here,
        host_routes: detail.host_routes.iter().map(ToString::to_string).collect(),
        host_route_note: detail.host_route_note,
        interface: detail.interface.map(|name| name.to_string()).unwrap_or_default(),
    }
}

/// One endpoint.
pub(super) fn endpoint(detail: EndpointDetail<'_>) -> v1::EndpointDetail {
    v1::EndpointDetail {
        endpoint: Some(detail.endpoint.into()),
        network: detail.network.map(Into::into),
        node: detail.node.map(Into::into),
    }
}

/// One sandbox.
pub(super) fn sandbox(detail: &SandboxDetail) -> v1::SandboxDetail {
    v1::SandboxDetail {
        sandbox: Some((&detail.sandbox).into()),
        endpoints: detail.endpoints.iter().map(Into::into).collect(),
        networks: detail.networks.iter().map(Into::into).collect(),
        state: detail.state.to_string(),
        files_dir: detail.files_dir.display().to_string(),
    }
}

/// One node.
pub(super) fn node(state: NodeState) -> v1::NodeDetail {
    let counters = state.counters.into_iter();
    v1::NodeDetail {
        node: Some((&state.node).into()),
        state: state.state.map_or_else(|| "unknown".to_owned(), |state| state.to_string()),
        is_self: state.is_self,
        lease: state.lease,
        endpoints: u32::try_from(state.endpoints).unwrap_or(u32::MAX),
        warnings: state.warnings,
        counters: counters.map(|(name, count)| (name.to_owned(), count.to_string())).collect(),
    }
}

/// What is left to do, a line for each step.
pub(super) fn differences(all: Vec<Difference>) -> Vec<v1::DiffLine> {
    let lines = all.into_iter().flat_map(|Difference { unit, steps }| {
        let unit = unit.to_string();
        steps.into_iter().map(move |step| v1::DiffLine { unit: unit.clone(), operation: step.to_string() })
    });
    lines.collect()
}

/// This agent, and how it stands with its store.
pub(super) fn version(about: &About, now: &AgentState) -> v1::VersionResponse {
    let state = match &now.store {
        StoreState::Unread => "not read yet".to_owned(),
        StoreState::Connected { slow: None } => "connected".to_owned(),
        StoreState::Connected { slow: Some(took) } => {
            format!("connected, but slow: {:.1} s or more for an answer", took.as_secs_f64())
        }
        StoreState::Away { error } => format!("away: {error}"),
    };
    let held = if now.held { "; not believed: see ovctl node ls" } else { "" };
    v1::VersionResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "v1".to_owned(),
        node_id: now.node.to_string(),
        node_name: about.node_name.clone(),
        store: format!("{} ({state}{held})", about.store),
        kernel: about.kernel.clone(),
        state_dir: about.state_dir.display().to_string(),
        run_dir: about.run_dir.display().to_string(),
        netns_dir: about.netns_dir.display().to_string(),
    }
}
