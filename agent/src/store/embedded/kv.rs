//! The KV service: range, put, delete, transactions, compaction.

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKvService, PbPutRequest,
    PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbTxnOpRequest, PbTxnOpResponse,
    PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{engine::Engine, fault::Fault, service::Service, txn};

/// Bytes of a request: etcd's default.
const REQUEST_MAX: usize = 3 << 19;

fn fits(request: &impl Message) -> Result<(), Fault> {
    if request.encoded_len() > REQUEST_MAX { Err(Fault::TooLarge) } else { Ok(()) }
}

fn transact(engine: &Engine, request: &PbTxnRequest) -> Result<(PbTxnResponse, i64), Fault> {
    engine.write(|batch| txn::run(batch, request, |lease| engine.leases().get(lease).is_some()))
}

/// One operation as a transaction of its own.
async fn alone(service: &Service, op: PbTxnOpRequest) -> Result<(Option<PbTxnOpResponse>, i64), Fault> {
    let request =
        PbTxnRequest { success: vec![PbTxnRequestOp { request: Some(op) }], ..PbTxnRequest::default() };
    fits(&request)?;
    let (answer, revision) = service.engine.call(move |engine| transact(engine, &request)).await?;
    Ok((answer.responses.into_iter().next().and_then(|op| op.response), revision))
}

#[tonic::async_trait]
impl PbKvService for Service {
    type RangeStreamStream = tokio_stream::Empty<Result<PbRangeStreamResponse, Status>>;

    async fn range(&self, request: Request<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let mut request = request.into_inner();
        self.access.read(&mut request);
        let (mut answer, revision) = self.engine.call(move |engine| engine.range(&request)).await?;
        answer.header = self.header(revision);
        Ok(Response::new(answer))
    }

    async fn range_stream(
        &self,
        _request: Request<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Fault::Unsupported("streamed ranges").into())
    }

    async fn put(&self, request: Request<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let request = request.into_inner();
        self.access.put(&request)?;
        let (answer, revision) = alone(self, PbTxnOpRequest::RequestPut(request)).await?;
        let Some(PbTxnOpResponse::ResponsePut(answer)) = answer else {
            return Err(Status::internal("a put without an answer"));
        };
        Ok(Response::new(PbPutResponse { header: self.header(revision), ..answer }))
    }

    async fn delete_range(
        &self,
        request: Request<PbDeleteRequest>,
    ) -> Result<Response<PbDeleteResponse>, Status> {
        let request = request.into_inner();
        self.access.delete(&request)?;
        let (answer, revision) = alone(self, PbTxnOpRequest::RequestDeleteRange(request)).await?;
        let Some(PbTxnOpResponse::ResponseDeleteRange(answer)) = answer else {
            return Err(Status::internal("a deletion without an answer"));
        };
        Ok(Response::new(PbDeleteResponse { header: self.header(revision), ..answer }))
    }

    async fn txn(&self, request: Request<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let mut request = request.into_inner();
        txn::check(&request)?;
        fits(&request)?;
        self.access.txn(&mut request)?;
        let (mut answer, revision) = self.engine.call(move |engine| transact(engine, &request)).await?;
        answer.header = self.header(revision);
        Ok(Response::new(answer))
    }

    async fn compact(
        &self,
        request: Request<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        let target = request.into_inner().revision;
        let ((), revision) =
            self.engine.call(move |engine| engine.write(|batch| batch.compact(target))).await?;
        Ok(Response::new(PbCompactionResponse { header: self.header(revision) }))
    }
}
