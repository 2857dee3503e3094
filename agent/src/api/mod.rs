//! The gRPC service over the unix socket: thin over the verbs of `service`.
//!
//! It translates and does nothing else: `request` has what is asked for, `view` the answers, and `status` is the one place where
//! a refusal becomes a gRPC status.

mod closing;
mod dump;
mod events;
mod request;
mod status;
mod view;

use std::{path::PathBuf, sync::Arc};

pub use closing::Closing;
use futures_util::stream::BoxStream;

use ovnet_proto::v1::{
    self,
    agent_server::{Agent, AgentServer},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    kernel::Kernel,
    service::{Acceptance, Service, ServiceError},
};

/// What `version` tells of this agent.
#[derive(Clone, Debug)]
pub struct About {
    /// Its node's name.
    pub node_name: String,
    /// Its store, as configured.
    pub store: String,
    /// The kernel's release.
    pub kernel: String,
    /// Its directories.
    pub state_dir: PathBuf,
    /// Its directories.
    pub run_dir: PathBuf,
    /// Its directories.
    pub netns_dir: PathBuf,
}

/// The service.
pub struct Api<K> {
    service: Arc<Service<K>>,
    about: About,
    /// When streams end.
    closing: CancellationToken,
}

impl<K: Kernel> Api<K> {
    /// The service over the verbs.
    pub fn new(service: Arc<Service<K>>, about: About) -> Self {
        Self { service, about, closing: CancellationToken::new() }
    }

    /// The same, whose streams end with a word when this is cancelled.
    #[must_use]
    pub fn until(self, closing: CancellationToken) -> Self {
        Self { closing, ..self }
    }

    /// The service as a server of tonic takes it.
    pub fn into_server(self) -> AgentServer<Self> {
        AgentServer::new(self)
    }
}

/// What a call comes back with.
type Reply<T> = Result<Response<T>, Status>;

fn reply<T, U>(result: Result<T, ServiceError>, into: impl FnOnce(T) -> U) -> Reply<U> {
    match result {
        Ok(value) => Ok(Response::new(into(value))),
        Err(error) => Err(status::of(&error)),
    }
}

#[tonic::async_trait]
impl<K: Kernel> Agent for Api<K> {
    async fn create_network(
        &self,
        request: Request<v1::CreateNetworkRequest>,
    ) -> Reply<v1::CreateNetworkResponse> {
        let created = match request::network(request.into_inner()) {
            Ok(spec) => self.service.create_network(spec).await,
            Err(error) => Err(error.into()),
        };
        reply(created, |network| v1::CreateNetworkResponse { network: Some((&network).into()) })
    }

    async fn list_networks(
        &self,
        _request: Request<v1::ListNetworksRequest>,
    ) -> Reply<v1::ListNetworksResponse> {
        reply(self.service.networks().await, |networks| v1::ListNetworksResponse {
            networks: networks.iter().map(Into::into).collect(),
        })
    }

    async fn inspect_network(
        &self,
        request: Request<v1::InspectNetworkRequest>,
    ) -> Reply<v1::InspectNetworkResponse> {
        let found = self.service.network(&request.into_inner().network, |endpoint| endpoint.into()).await;
        reply(found, view::network)
    }

    async fn remove_network(
        &self,
        request: Request<v1::RemoveNetworkRequest>,
    ) -> Reply<v1::RemoveNetworkResponse> {
        let removed = self.service.remove_network(&request.into_inner().network).await;
        reply(removed, |(id, name)| v1::RemoveNetworkResponse { id: id.to_string(), name: name.to_string() })
    }

    async fn prune_networks(
        &self,
        _request: Request<v1::PruneNetworksRequest>,
    ) -> Reply<v1::PruneNetworksResponse> {
        reply(self.service.prune_networks().await, |names| v1::PruneNetworksResponse {
            names: names.iter().map(ToString::to_string).collect(),
        })
    }

    async fn connect_sandbox(&self, request: Request<v1::ConnectRequest>) -> Reply<v1::ConnectResponse> {
        let asked = request.into_inner();
        let spec = asked.attachment.map(request::attachment).transpose();
        let connected = match spec {
            Ok(spec) => self.service.connect(&asked.sandbox, &spec.unwrap_or_default()).await,
            Err(error) => Err(error),
        };
        reply(connected, |attached| v1::ConnectResponse {
            endpoint: Some((&attached.endpoint).into()),
            unconfirmed: attached.unconfirmed,
        })
    }

    async fn disconnect_sandbox(
        &self,
        request: Request<v1::DisconnectRequest>,
    ) -> Reply<v1::DisconnectResponse> {
        let asked = request.into_inner();
        let done = self.service.disconnect(&asked.network, &asked.sandbox, asked.force).await;
        reply(done, |()| v1::DisconnectResponse {})
    }

    async fn create_sandbox(
        &self,
        request: Request<v1::CreateSandboxRequest>,
    ) -> Reply<v1::CreateSandboxResponse> {
        let created = match request::sandbox(request.into_inner()) {
            Ok(spec) => self.service.create_sandbox(spec).await,
            Err(error) => Err(error),
        };
        reply(created, |created| v1::CreateSandboxResponse {
            files_dir: self.service.files_of(&created.sandbox).display().to_string(),
            sandbox: Some((&created.sandbox).into()),
            endpoints: created.endpoints.iter().map(Into::into).collect(),
            unconfirmed: created.unconfirmed,
        })
    }

    async fn list_sandboxes(
        &self,
        _request: Request<v1::ListSandboxesRequest>,
    ) -> Reply<v1::ListSandboxesResponse> {
        reply(self.service.sandboxes().await, |sandboxes| v1::ListSandboxesResponse {
            sandboxes: sandboxes.iter().map(view::sandbox).collect(),
        })
    }

    async fn inspect_sandbox(&self, request: Request<v1::InspectSandboxRequest>) -> Reply<v1::SandboxDetail> {
        reply(self.service.sandbox(&request.into_inner().sandbox).await, |detail| view::sandbox(&detail))
    }

    async fn remove_sandbox(
        &self,
        request: Request<v1::RemoveSandboxRequest>,
    ) -> Reply<v1::RemoveSandboxResponse> {
        let asked = request.into_inner();
        let removed = self.service.remove_sandbox(&asked.sandbox, asked.force).await;
        reply(removed, |name| v1::RemoveSandboxResponse { name: name.to_string() })
    }

    async fn list_endpoints(
        &self,
        request: Request<v1::ListEndpointsRequest>,
    ) -> Reply<v1::ListEndpointsResponse> {
        let listed = self.service.endpoints(&request.into_inner().network, view::endpoint).await;
        reply(listed, |endpoints| v1::ListEndpointsResponse { endpoints })
    }

    async fn inspect_endpoint(
        &self,
        request: Request<v1::InspectEndpointRequest>,
    ) -> Reply<v1::EndpointDetail> {
        reply(self.service.endpoint(&request.into_inner().endpoint, view::endpoint).await, |detail| detail)
    }

    async fn list_nodes(&self, _request: Request<v1::ListNodesRequest>) -> Reply<v1::ListNodesResponse> {
        reply(self.service.nodes().await, |nodes| v1::ListNodesResponse {
            nodes: nodes.into_iter().map(view::node).collect(),
        })
    }

    async fn inspect_node(&self, request: Request<v1::InspectNodeRequest>) -> Reply<v1::NodeDetail> {
        reply(self.service.node(&request.into_inner().node).await, view::node)
    }

    async fn remove_node(&self, request: Request<v1::RemoveNodeRequest>) -> Reply<v1::RemoveNodeResponse> {
        let asked = request.into_inner();
        let removed = self.service.remove_node(&asked.node, asked.force).await;
        reply(removed, |(id, endpoints)| v1::RemoveNodeResponse { id: id.to_string(), endpoints })
    }

    async fn accept_empty(&self, request: Request<v1::AcceptEmptyRequest>) -> Reply<v1::AcceptEmptyResponse> {
        let accepted = self.service.accept_empty(request.into_inner().go_ahead).await;
        reply(accepted, |Acceptance { why, whole_cluster }| v1::AcceptEmptyResponse { why, whole_cluster })
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Reply<v1::DiffResponse> {
        reply(self.service.diff(&request.into_inner().network).await, |all| v1::DiffResponse {
            lines: view::differences(all),
        })
    }

    type EventsStream = BoxStream<'static, Result<v1::Event, Status>>;

    async fn events(&self, _request: Request<v1::EventsRequest>) -> Reply<Self::EventsStream> {
        let events = events::stream(self.service.events());
        Ok(Response::new(closing::until(self.closing.clone(), events)))
    }

    type DumpStoreStream = BoxStream<'static, Result<v1::StoreEntry, Status>>;

    async fn dump_store(&self, _request: Request<v1::DumpStoreRequest>) -> Reply<Self::DumpStoreStream> {
        reply(self.service.dump().await, |records| {
            closing::until(self.closing.clone(), dump::stream(records))
        })
    }

    async fn version(&self, _request: Request<v1::VersionRequest>) -> Reply<v1::VersionResponse> {
        Ok(Response::new(view::version(&self.about, &self.service.state())))
    }
}
