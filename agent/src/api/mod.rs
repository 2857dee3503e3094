//! The gRPC service over the unix socket: thin over the verbs of `service`.
//!
//! `status` is the one place where a refusal becomes a gRPC status, `view` where nouns become answers.

mod closing;
mod dump;
mod events;
mod request;
mod status;
mod view;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use closing::Closing;
use futures_util::stream::BoxStream;

use ovnet_proto::v1::{
    self,
    agent_server::{Agent, AgentServer},
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    ipam::SubnetRequest,
    kernel::Kernel,
    plan::ownership::Unit,
    reconcile,
    service::{Acceptance, NetworkSpec, Service, ServiceError},
    store::StoreStatus,
};

/// How long a look at everything may take.
const DIFF_DEADLINE: Duration = Duration::from_secs(30);

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
    store: watch::Receiver<StoreStatus>,
    /// When streams end.
    closing: CancellationToken,
}

impl<K: Kernel> Api<K> {
    /// The service over the verbs.
    pub fn new(service: Arc<Service<K>>, about: About, store: watch::Receiver<StoreStatus>) -> Self {
        Self { service, about, store, closing: CancellationToken::new() }
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
        let asked = request.into_inner();
        let spec = NetworkSpec {
            name: asked.name,
            driver: asked.driver,
            subnets: SubnetRequest {
                subnets: asked.subnets,
                gateways: asked.gateways,
                ip_ranges: asked.ip_ranges,
                aux: asked.aux_addresses,
            },
            ipv6: asked.ipv6,
            internal: asked.internal,
            labels: asked.labels,
            options: asked.options,
            force: asked.force,
        };
        reply(self.service.create_network(spec).await, |network| v1::CreateNetworkResponse {
            network: Some((&network).into()),
        })
    }

    async fn list_networks(
        &self,
        _request: Request<v1::ListNetworksRequest>,
    ) -> Reply<v1::ListNetworksResponse> {
        let ready = self.service.ready().await;
        reply(ready, |()| v1::ListNetworksResponse { networks: view::networks(&self.service) })
    }

    async fn inspect_network(
        &self,
        request: Request<v1::InspectNetworkRequest>,
    ) -> Reply<v1::InspectNetworkResponse> {
        reply(view::network(&self.service, &request.into_inner().network).await, |detail| detail)
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
        reply(view::sandboxes(&self.service).await, |sandboxes| v1::ListSandboxesResponse { sandboxes })
    }

    async fn inspect_sandbox(&self, request: Request<v1::InspectSandboxRequest>) -> Reply<v1::SandboxDetail> {
        reply(view::sandbox(&self.service, &request.into_inner().sandbox).await, |detail| detail)
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
        let listed = view::endpoints(&self.service, &request.into_inner().network).await;
        reply(listed, |endpoints| v1::ListEndpointsResponse { endpoints })
    }

    async fn inspect_endpoint(
        &self,
        request: Request<v1::InspectEndpointRequest>,
    ) -> Reply<v1::EndpointDetail> {
        reply(view::endpoint(&self.service, &request.into_inner().endpoint).await, |detail| detail)
    }

    async fn list_nodes(&self, _request: Request<v1::ListNodesRequest>) -> Reply<v1::ListNodesResponse> {
        reply(self.service.nodes().await, |nodes| v1::ListNodesResponse {
            nodes: nodes.into_iter().map(|node| view::node(&self.service, node)).collect(),
        })
    }

    async fn inspect_node(&self, request: Request<v1::InspectNodeRequest>) -> Reply<v1::NodeDetail> {
        reply(self.service.node(&request.into_inner().node).await, |node| view::node(&self.service, node))
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
        reply(self.differences(&request.into_inner().network).await, |lines| v1::DiffResponse { lines })
    }

    type EventsStream = BoxStream<'static, Result<v1::Event, Status>>;

    async fn events(&self, _request: Request<v1::EventsRequest>) -> Reply<Self::EventsStream> {
        let events = events::stream(Arc::clone(&self.service.world));
        Ok(Response::new(closing::until(self.closing.clone(), events)))
    }

    type DumpStoreStream = BoxStream<'static, Result<v1::StoreEntry, Status>>;

    async fn dump_store(&self, _request: Request<v1::DumpStoreRequest>) -> Reply<Self::DumpStoreStream> {
        let dumped = dump::stream(&self.service.global, &self.service.local).await;
        let dumped = dumped.map(|entries| closing::until(self.closing.clone(), entries));
        dumped.map(Response::new).map_err(|error| status::of(&error))
    }

    async fn version(&self, _request: Request<v1::VersionRequest>) -> Reply<v1::VersionResponse> {
        let state = match &*self.store.borrow() {
            StoreStatus::Starting => "not read yet".to_owned(),
            StoreStatus::Connected => match self.service.global.slowness() {
                None => "connected".to_owned(),
                Some(took) => {
                    format!("connected, but slow: {:.1} s or more for an answer", took.as_secs_f64())
                }
            },
            StoreStatus::Away { error, .. } => format!("away: {error}"),
        };
        let held = if self.service.world.held().is_some() { "; not believed: see ovctl node ls" } else { "" };
        Ok(Response::new(v1::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: "v1".to_owned(),
            node_id: self.service.world.me.to_string(),
            node_name: self.about.node_name.clone(),
            store: format!("{} ({state}{held})", self.about.store),
            kernel: self.about.kernel.clone(),
            state_dir: self.about.state_dir.display().to_string(),
            run_dir: self.about.run_dir.display().to_string(),
            netns_dir: self.about.netns_dir.display().to_string(),
        }))
    }
}

impl<K: Kernel> Api<K> {
    async fn differences(&self, network: &str) -> Result<Vec<v1::DiffLine>, ServiceError> {
        self.service.ready().await?;
        let only = match network {
            "" => None,
            text => {
                let id = self
                    .service
                    .world
                    .read(|intent| intent.find_network(text).map(|(network, _)| network.id))?;
                Some(Unit::Network(id))
            }
        };
        let (tell, told) = oneshot::channel();
        let stopped = || ServiceError::Busy("the agent is stopping".into());
        let busy = || ServiceError::Busy("the kernel could not be looked at in time: try again".into());
        let asked = self.service.loop_requests.send(reconcile::Request::Diff(tell)).await;
        asked.map_err(|_closed| stopped())?;
        let told = tokio::time::timeout(DIFF_DEADLINE, told).await;
        let units = told.map_err(|_elapsed| busy())?.map_err(|_closed| stopped())?;
        let mut lines = Vec::new();
        for (unit, steps) in units.into_iter().filter(|(unit, _)| only.is_none_or(|only| only == *unit)) {
            let unit = view::unit(&self.service, unit);
            match steps {
                Ok(steps) => lines.extend(
                    steps.iter().map(|step| v1::DiffLine { unit: unit.clone(), operation: step.to_string() }),
                ),
                Err(error) => {
                    return Err(ServiceError::Kernel(format!("{unit} cannot be looked at: {error}")));
                }
            }
        }
        Ok(lines)
    }
}
