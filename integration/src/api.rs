//! The agent's API without ovctl in between: data in its own types, and times without a process to start.

use std::{future::Future, path::Path, time::Duration};

use anyhow::{Context, Result};
use ovnet_proto::v1::{self as ov, agent_client::AgentClient};
use tokio::runtime::{Builder, Runtime};
use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};

/// Longest time for one call.
const LIMIT: Duration = Duration::from_secs(30);

/// A connection to an agent, for code that does not await.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    client: AgentClient<Channel>,
}

impl Api {
    /// For the agent whose socket this is; it connects with the first call.
    ///
    /// # Errors
    /// No runtime; a path that is not UTF-8.
    pub fn new(socket: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("make a runtime")?;
        let path = socket.to_str().context("a socket path in UTF-8")?;
        let endpoint = Endpoint::from_shared(format!("unix://{path}")).context("the socket's address")?;
        let channel = {
            let _inside = runtime.enter();
            endpoint.timeout(LIMIT).connect_lazy()
        };
        Ok(Self { runtime, client: AgentClient::new(channel) })
    }

    /// Call the agent.
    ///
    /// # Errors
    /// The status, as the agent or the connection gave it.
    pub fn call<T, F>(&self, call: impl FnOnce(AgentClient<Channel>) -> F) -> Result<T, Box<Status>>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.runtime.block_on(call(self.client.clone())).map(Response::into_inner).map_err(Box::new)
    }

    /// What runs.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn version(&self) -> Result<ov::VersionResponse> {
        Ok(self.call(|mut agent| async move { agent.version(ov::VersionRequest {}).await })?)
    }

    /// The nodes as this agent sees them.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn nodes(&self) -> Result<Vec<ov::NodeDetail>> {
        Ok(self.call(|mut agent| async move { agent.list_nodes(ov::ListNodesRequest {}).await })?.nodes)
    }

    /// The state of the node of this name as this agent sees it, `None` if it does not know the node.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn node_state(&self, name: &str) -> Result<Option<String>> {
        let named = |detail: &ov::NodeDetail| detail.node.as_ref().is_some_and(|node| node.name == name);
        Ok(self.nodes()?.into_iter().find(named).map(|detail| detail.state))
    }

    /// A network with its endpoints.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn network(&self, name: &str) -> Result<ov::InspectNetworkResponse> {
        let request = ov::InspectNetworkRequest { network: name.into() };
        Ok(self.call(|mut agent| async move { agent.inspect_network(request).await })?)
    }

    /// What the kernel lacks or has too much, one line each.
    ///
    /// # Errors
    /// The agent does not answer.
    pub fn diff(&self) -> Result<Vec<String>> {
        let request = ov::DiffRequest { network: String::new() };
        let lines = self.call(|mut agent| async move { agent.diff(request).await })?.lines;
        Ok(lines.into_iter().map(|line| format!("{}: {}", line.unit, line.operation)).collect())
    }

    /// Attach a sandbox to a network.
    ///
    /// # Errors
    /// The status of the refusal.
    pub fn connect(&self, network: &str, sandbox: &str) -> Result<ov::ConnectResponse, Box<Status>> {
        let attachment = ov::Attachment { network: network.into(), ..ov::Attachment::default() };
        let request = ov::ConnectRequest { sandbox: sandbox.into(), attachment: Some(attachment) };
        self.call(|mut agent| async move { agent.connect_sandbox(request).await })
    }

    /// Detach it again.
    ///
    /// # Errors
    /// The status of the refusal.
    pub fn disconnect(&self, network: &str, sandbox: &str) -> Result<(), Box<Status>> {
        let request =
            ov::DisconnectRequest { network: network.into(), sandbox: sandbox.into(), force: false };
        self.call(|mut agent| async move { agent.disconnect_sandbox(request).await }).map(|_empty| ())
    }
}

/// The endpoint's address of the family, without its prefix length.
pub fn address(endpoint: &ov::Endpoint, ipv6: bool) -> Option<String> {
    let of_family = endpoint.addresses.iter().find(|address| address.contains(':') == ipv6)?;
    Some(of_family.split_once('/').map_or(of_family.as_str(), |(address, _length)| address).to_string())
}
