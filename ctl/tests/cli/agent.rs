//! The service of the agent in memory.

use std::sync::{Arc, Mutex};

use ovnet_proto::v1::{self as pb, agent_server::Agent};
use serde::Serialize;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Request, Response, Status, async_trait};

use crate::fake::World;

pub(crate) struct MemoryAgent {
    pub(crate) world: Arc<Mutex<World>>,
}

type Reply<T> = Result<Response<T>, Status>;
type Messages<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl MemoryAgent {
    /// Records the call, and answers from the world unless it is to be refused.
    fn answer<T>(
        &self,
        call: &'static str,
        request: &impl Serialize,
        answer: impl FnOnce(&mut World) -> Result<T, Status>,
    ) -> Reply<T> {
        let mut world = self.world.lock().unwrap();
        world.calls.push((call, serde_json::to_value(request).unwrap()));
        if let Some((code, message)) = world.refusals.get(call) {
            return Err(Status::new(*code, *message));
        }
        answer(&mut world).map(Response::new)
    }
}

fn none(what: &str, name: &str) -> Status {
    Status::not_found(format!("no {what} {name:?} on this host or in the store: see ovctl {what} ls"))
}

impl World {
    fn network(&self, name: &str) -> Result<pb::Network, Status> {
        let mut found =
            self.networks.iter().filter(|network| network.name == name || network.id.starts_with(name));
        found.next().cloned().ok_or_else(|| none("network", name))
    }

    fn sandbox(&self, name: &str) -> Result<pb::SandboxDetail, Status> {
        let named = |detail: &&pb::SandboxDetail| detail.sandbox.as_ref().is_some_and(|own| own.name == name);
        self.sandboxes.iter().find(named).cloned().ok_or_else(|| none("sandbox", name))
    }

    fn node(&self, name: &str) -> Result<pb::NodeDetail, Status> {
        let named = |detail: &&pb::NodeDetail| {
            name == "self" && detail.is_self || detail.node.as_ref().is_some_and(|own| own.name == name)
        };
        self.nodes.iter().find(named).cloned().ok_or_else(|| none("node", name))
    }

    fn endpoint(&self, endpoint: &pb::Endpoint) -> pb::EndpointDetail {
        let node = self
            .nodes
            .iter()
            .filter_map(|detail| detail.node.clone())
            .find(|node| node.id == endpoint.node_id);
        let network = self.networks.iter().find(|network| network.id == endpoint.network_id).cloned();
        pb::EndpointDetail { endpoint: Some(endpoint.clone()), network, node }
    }

    fn create_sandbox(
        &mut self,
        request: pb::CreateSandboxRequest,
    ) -> Result<pb::CreateSandboxResponse, Status> {
        let name = if request.name.is_empty() { "quiet_heron".to_owned() } else { request.name };
        if self.sandbox(&name).is_ok() {
            return Err(Status::already_exists(format!(
                "a sandbox {name:?} exists: choose a different name"
            )));
        }
        let owner = match request.share.as_str() {
            "" => None,
            owner => Some(self.sandbox(owner)?),
        };
        let files_dir = owner.as_ref().map_or(&self.files_dir, |owner| &owner.files_dir).clone();
        let owner = owner.and_then(|owner| owner.sandbox);
        let hostname = match &owner {
            Some(owner) => owner.hostname.clone(),
            None if request.hostname.is_empty() => name.clone(),
            None => request.hostname,
        };
        let adopted = request.pid != 0 || !request.netns.is_empty() || owner.is_some();
        let netns = match owner {
            Some(owner) => owner.netns,
            None if adopted => request.netns,
            None => self.netns.clone(),
        };
        let sandbox = pb::Sandbox {
            id: "ab".repeat(32),
            name,
            netns,
            adopted,
            pid: request.pid,
            hostname,
            domain: request.domain,
            shares: request.share,
            ..Default::default()
        };
        self.sandboxes.push(pb::SandboxDetail {
            sandbox: Some(sandbox.clone()),
            state: "up".into(),
            files_dir: files_dir.clone(),
            ..Default::default()
        });
        Ok(pb::CreateSandboxResponse {
            sandbox: Some(sandbox),
            endpoints: Vec::new(),
            unconfirmed: self.unconfirmed.clone(),
            files_dir,
        })
    }
}

#[async_trait]
impl Agent for MemoryAgent {
    async fn create_network(
        &self,
        request: Request<pb::CreateNetworkRequest>,
    ) -> Reply<pb::CreateNetworkResponse> {
        let request = request.into_inner();
        self.answer("CreateNetwork", &request, |world| {
            let network = pb::Network {
                id: "4f".repeat(32),
                name: request.name.clone(),
                driver: request.driver.clone(),
                scope: "global".into(),
                ..Default::default()
            };
            world.networks.push(network.clone());
            Ok(pb::CreateNetworkResponse { network: Some(network) })
        })
    }

    async fn list_networks(
        &self,
        request: Request<pb::ListNetworksRequest>,
    ) -> Reply<pb::ListNetworksResponse> {
        self.answer("ListNetworks", &request.into_inner(), |world| {
            Ok(pb::ListNetworksResponse { networks: world.networks.clone() })
        })
    }

    async fn inspect_network(
        &self,
        request: Request<pb::InspectNetworkRequest>,
    ) -> Reply<pb::InspectNetworkResponse> {
        let request = request.into_inner();
        self.answer("InspectNetwork", &request, |world| {
            let network = world.network(&request.network)?;
            let endpoints = world
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.network_id == network.id)
                .cloned()
                .collect();
            let member = |node: &pb::Node| pb::Member {
                network_id: network.id.clone(),
                node_id: node.id.clone(),
                mac: "02:42:0a:00:00:fd".into(),
                addresses: vec!["10.0.0.253/24".into()],
            };
            let nodes: Vec<pb::Node> = world.nodes.iter().filter_map(|detail| detail.node.clone()).collect();
            let usage = network.subnets.iter().map(|subnet| pb::SubnetUsage {
                prefix: subnet.prefix.clone(),
                total: "254".into(),
                used: "4".into(),
                free: "250".into(),
            });
            Ok(pb::InspectNetworkResponse {
                endpoints,
                members: nodes.iter().map(member).collect(),
                nodes,
                usage: usage.collect(),
                mtu: 1450,
                here: true,
                host_routes: network.subnets.iter().map(|subnet| subnet.prefix.clone()).collect(),
                host_route_note: String::new(),
                interface: world.interface.clone(),
                network: Some(network),
            })
        })
    }

    async fn remove_network(
        &self,
        request: Request<pb::RemoveNetworkRequest>,
    ) -> Reply<pb::RemoveNetworkResponse> {
        let request = request.into_inner();
        self.answer("RemoveNetwork", &request, |world| {
            let network = world.network(&request.network)?;
            world.networks.retain(|other| other.id != network.id);
            Ok(pb::RemoveNetworkResponse { id: network.id, name: network.name })
        })
    }

    async fn prune_networks(
        &self,
        request: Request<pb::PruneNetworksRequest>,
    ) -> Reply<pb::PruneNetworksResponse> {
        self.answer("PruneNetworks", &request.into_inner(), |world| {
            let names = world.networks.drain(..).map(|network| network.name).collect();
            Ok(pb::PruneNetworksResponse { names })
        })
    }

    async fn connect_sandbox(&self, request: Request<pb::ConnectRequest>) -> Reply<pb::ConnectResponse> {
        self.answer("ConnectSandbox", &request.into_inner(), |world| {
            Ok(pb::ConnectResponse { endpoint: None, unconfirmed: world.unconfirmed.clone() })
        })
    }

    async fn disconnect_sandbox(
        &self,
        request: Request<pb::DisconnectRequest>,
    ) -> Reply<pb::DisconnectResponse> {
        self.answer("DisconnectSandbox", &request.into_inner(), |_world| Ok(pb::DisconnectResponse {}))
    }

    async fn create_sandbox(
        &self,
        request: Request<pb::CreateSandboxRequest>,
    ) -> Reply<pb::CreateSandboxResponse> {
        let request = request.into_inner();
        self.answer("CreateSandbox", &request.clone(), |world| world.create_sandbox(request))
    }

    async fn list_sandboxes(
        &self,
        request: Request<pb::ListSandboxesRequest>,
    ) -> Reply<pb::ListSandboxesResponse> {
        self.answer("ListSandboxes", &request.into_inner(), |world| {
            Ok(pb::ListSandboxesResponse { sandboxes: world.sandboxes.clone() })
        })
    }

    async fn inspect_sandbox(&self, request: Request<pb::InspectSandboxRequest>) -> Reply<pb::SandboxDetail> {
        let request = request.into_inner();
        self.answer("InspectSandbox", &request, |world| world.sandbox(&request.sandbox))
    }

    async fn remove_sandbox(
        &self,
        request: Request<pb::RemoveSandboxRequest>,
    ) -> Reply<pb::RemoveSandboxResponse> {
        let request = request.into_inner();
        self.answer("RemoveSandbox", &request, |world| {
            let gone = world.sandbox(&request.sandbox)?;
            world.sandboxes.retain(|other| *other != gone);
            Ok(pb::RemoveSandboxResponse { name: request.sandbox.clone() })
        })
    }

    async fn list_endpoints(
        &self,
        request: Request<pb::ListEndpointsRequest>,
    ) -> Reply<pb::ListEndpointsResponse> {
        let request = request.into_inner();
        self.answer("ListEndpoints", &request, |world| {
            let endpoints = world.endpoints.iter().map(|endpoint| world.endpoint(endpoint)).collect();
            Ok(pb::ListEndpointsResponse { endpoints })
        })
    }

    async fn inspect_endpoint(
        &self,
        request: Request<pb::InspectEndpointRequest>,
    ) -> Reply<pb::EndpointDetail> {
        let request = request.into_inner();
        self.answer("InspectEndpoint", &request, |world| {
            let found = world.endpoints.iter().find(|endpoint| endpoint.id.starts_with(&request.endpoint));
            found.map(|found| world.endpoint(found)).ok_or_else(|| none("endpoint", &request.endpoint))
        })
    }

    async fn list_nodes(&self, request: Request<pb::ListNodesRequest>) -> Reply<pb::ListNodesResponse> {
        self.answer("ListNodes", &request.into_inner(), |world| {
            Ok(pb::ListNodesResponse { nodes: world.nodes.clone() })
        })
    }

    async fn inspect_node(&self, request: Request<pb::InspectNodeRequest>) -> Reply<pb::NodeDetail> {
        let request = request.into_inner();
        self.answer("InspectNode", &request, |world| world.node(&request.node))
    }

    async fn remove_node(&self, request: Request<pb::RemoveNodeRequest>) -> Reply<pb::RemoveNodeResponse> {
        let request = request.into_inner();
        self.answer("RemoveNode", &request, |world| {
            let node = world.node(&request.node)?;
            Ok(pb::RemoveNodeResponse { id: node.node.unwrap_or_default().id, endpoints: node.endpoints })
        })
    }

    async fn accept_empty(&self, request: Request<pb::AcceptEmptyRequest>) -> Reply<pb::AcceptEmptyResponse> {
        self.answer("AcceptEmpty", &request.into_inner(), |_world| {
            Ok(pb::AcceptEmptyResponse { why: "the store is empty".into(), whole_cluster: true })
        })
    }

    async fn diff(&self, request: Request<pb::DiffRequest>) -> Reply<pb::DiffResponse> {
        self.answer("Diff", &request.into_inner(), |world| Ok(pb::DiffResponse { lines: world.diff.clone() }))
    }

    type EventsStream = Messages<pb::Event>;

    async fn events(&self, request: Request<pb::EventsRequest>) -> Reply<Self::EventsStream> {
        self.answer("Events", &request.into_inner(), |world| {
            let events = tokio_stream::iter(world.events.clone()).map(Ok);
            Ok(if world.events_end {
                Box::pin(events) as Messages<_>
            } else {
                Box::pin(events.chain(tokio_stream::pending()))
            })
        })
    }

    type DumpStoreStream = Messages<pb::StoreEntry>;

    async fn dump_store(&self, request: Request<pb::DumpStoreRequest>) -> Reply<Self::DumpStoreStream> {
        self.answer("DumpStore", &request.into_inner(), |world| {
            Ok(Box::pin(tokio_stream::iter(world.store.clone()).map(Ok)) as Messages<_>)
        })
    }

    async fn version(&self, request: Request<pb::VersionRequest>) -> Reply<pb::VersionResponse> {
        self.answer("Version", &request.into_inner(), |_world| {
            Ok(pb::VersionResponse {
                version: "0.1.0".into(),
                api: "v1".into(),
                node_id: "6d1a1f5c-7f0e-4f8e-9a53-1d1d57b6a001".into(),
                node_name: "host1".into(),
                store: "local".into(),
                kernel: "6.18.0".into(),
                ..Default::default()
            })
        })
    }
}

/// A code that no test means by accident.
pub(crate) const AWAY: (Code, &str) =
    (Code::Unavailable, "the store etcd://10.0.0.9:2379 is away since 12 s: try again when it is back");
