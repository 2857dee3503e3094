//! The lease service: grant, revoke, keep alive, time to live.

use std::sync::Arc;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService,
    PbLeaseStatus, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{fault::Fault, service::Service};

/// One keep-alive stream.
struct KeepAlive {
    service: Service,
    requests: Streaming<PbLeaseKeepAliveRequest>,
}

impl KeepAlive {
    async fn next(&mut self) -> Option<Result<PbLeaseKeepAliveResponse, Status>> {
        let request = tokio::select! {
            () = self.service.stop.cancelled() => return None,
            request = self.requests.message() => request,
        };
        let id = match request {
            Ok(Some(request)) => request.id,
            Ok(None) => return None,
            Err(status) => return Some(Err(status)),
        };
        let engine = &self.service.engine;
        let renewed = engine.leases().renew(id, Instant::now());
        let header = self.service.header(engine.revision());
        // A lease that is gone has 0 seconds left: etcd gives no error here.
        Some(Ok(PbLeaseKeepAliveResponse { header, id, ttl: renewed.unwrap_or(0) }))
    }
}

#[tonic::async_trait]
impl PbLeaseService for Service {
    type LeaseKeepAliveStream = BoxStream<'static, Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let PbLeaseGrantRequest { ttl, id } = request.into_inner();
        let (id, ttl) = self.engine.call(move |engine| engine.grant(id, ttl, Instant::now())).await?;
        let header = self.header(self.engine.revision());
        Ok(Response::new(PbLeaseGrantResponse { header, id, ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let id = request.into_inner().id;
        let hides = |key: &Vec<u8>| !self.access.shows(key);
        if self.engine.leases().get(id).is_some_and(|lease| lease.keys.iter().any(hides)) {
            return Err(Fault::NotServed.into());
        }
        let revision = self.engine.call(move |engine| engine.revoke(id)).await?;
        Ok(Response::new(PbLeaseRevokeResponse { header: self.header(revision) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let stream = KeepAlive { service: self.clone(), requests: request.into_inner() };
        let answers =
            unfold(stream, |mut stream| async move { stream.next().await.map(|next| (next, stream)) });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let PbLeaseTimeToLiveRequest { id, keys: with_keys } = request.into_inner();
        let header = self.header(self.engine.revision());
        let leases = self.engine.leases();
        let answer = leases.get(id).map(|lease| {
            let shown = lease.keys.iter().filter(|key| self.access.shows(key));
            let left = lease.deadline.saturating_duration_since(Instant::now()).as_secs();
            PbLeaseTimeToLiveResponse {
                header,
                id,
                ttl: i64::try_from(left).unwrap_or(i64::MAX),
                granted_ttl: lease.ttl,
                keys: if with_keys { shown.cloned().collect() } else { Vec::new() },
            }
        });
        let gone =
            || PbLeaseTimeToLiveResponse { header, id, ttl: -1, ..PbLeaseTimeToLiveResponse::default() };
        Ok(Response::new(answer.unwrap_or_else(gone)))
    }

    async fn lease_leases(
        &self,
        _request: Request<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        let engine = Arc::clone(&self.engine);
        let leases = engine.leases().ids().map(|id| PbLeaseStatus { id }).collect();
        Ok(Response::new(PbLeaseLeasesResponse { header: self.header(engine.revision()), leases }))
    }
}
