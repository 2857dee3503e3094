//! `endpoint ls`, `inspect`: endpoints of all hosts, with what belongs beside them.

use std::ops::Bound;

use super::super::{Service, ServiceError};
use crate::{
    intent::Intent,
    kernel::Kernel,
    model::{Endpoint, Network, NetworkId, Node},
};

/// Endpoints that are told of before others have a turn: a few milliseconds' worth.
const AT_ONCE: usize = 1000;

/// An endpoint with what belongs beside it. Borrowed: of very many endpoints only what is told of them is kept.
#[derive(Clone, Copy, Debug)]
pub struct EndpointDetail<'a> {
    /// Its record.
    pub endpoint: &'a Endpoint,
    /// Its network, if its record is known.
    pub network: Option<&'a Network>,
    /// Its node, if that is registered.
    pub node: Option<&'a Node>,
}

impl<K: Kernel> Service<K> {
    /// What `tell` makes of each endpoint of one network; of every one, if `network` is empty.
    ///
    /// # Errors
    /// An unknown or ambiguous network; the store has not been read yet.
    pub async fn endpoints<T>(
        &self,
        network: &str,
        tell: impl Fn(EndpointDetail<'_>) -> T,
    ) -> Result<Vec<T>, ServiceError> {
        self.ready().await?;
        let networks: Vec<NetworkId> = self.world.read(|intent| match network {
            "" => Ok::<_, ServiceError>(intent.networks().map(|(id, _)| *id).collect()),
            text => Ok(vec![intent.find_network(text)?.0.id]),
        })?;
        let mut all = Vec::new();
        for id in networks {
            all.append(&mut self.each_endpoint(id, |intent, endpoint| tell(detail(intent, endpoint))).await);
        }
        Ok(all)
    }

    /// What `tell` makes of one endpoint.
    ///
    /// # Errors
    /// Unknown or ambiguous; the store has not been read yet.
    pub async fn endpoint<T>(
        &self,
        text: &str,
        tell: impl FnOnce(EndpointDetail<'_>) -> T,
    ) -> Result<T, ServiceError> {
        self.ready().await?;
        self.world.read(|intent| Ok(tell(detail(intent, intent.find_endpoint(text)?))))
    }

    /// What `tell` makes of every endpoint of a network. Others have their turns in between: with very many it takes a while.
    pub(super) async fn each_endpoint<T>(
        &self,
        network: NetworkId,
        tell: impl Fn(&Intent, &Endpoint) -> T,
    ) -> Vec<T> {
        let (mut told, mut after) = (Vec::new(), Bound::Unbounded);
        loop {
            let last = self.world.read(|intent| {
                let some =
                    intent.network(network)?.endpoints().range((after, Bound::Unbounded)).take(AT_ONCE);
                some.map(|(id, endpoint)| (told.push(tell(intent, endpoint)), *id).1).last()
            });
            let Some(last) = last else { return told };
            after = Bound::Excluded(last);
            tokio::task::yield_now().await;
        }
    }
}

fn detail<'a>(intent: &'a Intent, endpoint: &'a Endpoint) -> EndpointDetail<'a> {
    EndpointDetail {
        endpoint,
        network: intent.network(endpoint.network).and_then(|view| view.network()),
        node: intent.nodes().get(&endpoint.node),
    }
}
