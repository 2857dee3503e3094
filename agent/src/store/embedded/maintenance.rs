//! The maintenance service: as much of it as `etcdctl endpoint status` and `endpoint health` ask for.

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse,
    PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse,
    PbStatusRequest, PbStatusResponse,
};
use tonic::{Request, Response, Status};

use super::{engine::Identity, fault::Fault, service::Service};

/// The etcd whose API this is a part of, and who we are.
const VERSION: &str = concat!("3.4.0+ovnet-", env!("CARGO_PKG_VERSION"));

type Answer<T> = Result<Response<T>, Status>;

fn unsupported<T>(what: &'static str) -> Answer<T> {
    Err(Fault::Unsupported(what).into())
}

#[tonic::async_trait]
impl PbMaintenanceService for Service {
    type SnapshotStream = tokio_stream::Empty<Result<PbSnapshotResponse, Status>>;

    async fn status(&self, _request: Request<PbStatusRequest>) -> Answer<PbStatusResponse> {
        let Identity { cluster, term } = self.engine.identity();
        let revision = self.engine.revision();
        let db_size = self.engine.call(|engine| engine.size()).await?;
        Ok(Response::new(PbStatusResponse {
            header: self.header(revision),
            version: VERSION.into(),
            db_size,
            db_size_in_use: db_size,
            leader: cluster,
            raft_term: term,
            raft_index: revision.unsigned_abs(),
            raft_applied_index: revision.unsigned_abs(),
            ..PbStatusResponse::default()
        }))
    }

    async fn alarm(&self, _request: Request<PbAlarmRequest>) -> Answer<PbAlarmResponse> {
        let header = self.header(self.engine.revision());
        Ok(Response::new(PbAlarmResponse { header, alarms: Vec::new() }))
    }

    async fn defragment(&self, _request: Request<PbDefragmentRequest>) -> Answer<PbDefragmentResponse> {
        unsupported("defragmentation")
    }

    async fn hash(&self, _request: Request<PbHashRequest>) -> Answer<PbHashResponse> {
        unsupported("hashes")
    }

    async fn hash_kv(&self, _request: Request<PbHashKvRequest>) -> Answer<PbHashKvResponse> {
        unsupported("hashes")
    }

    async fn snapshot(&self, _request: Request<PbSnapshotRequest>) -> Answer<Self::SnapshotStream> {
        unsupported("snapshots")
    }

    async fn move_leader(&self, _request: Request<PbMoveLeaderRequest>) -> Answer<PbMoveLeaderResponse> {
        unsupported("another leader")
    }

    async fn downgrade(&self, _request: Request<PbDowngradeRequest>) -> Answer<PbDowngradeResponse> {
        unsupported("downgrades")
    }
}
