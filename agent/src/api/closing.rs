//! The end of the service: streams end at once, verbs under way a little later, each with a word.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures_util::{StreamExt, stream};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

/// The status of a call that the agent's end cuts short. No other error of the agent has this code.
fn stopping(what: &str) -> Status {
    Status::cancelled(format!("the agent is stopping: {what}"))
}

/// A stream that ends with a status when `closing` is cancelled, whether or not something is left of it.
pub(super) fn until<T: Send + 'static>(
    closing: CancellationToken,
    all: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> stream::BoxStream<'static, Result<T, Status>> {
    let last = closing.clone();
    let told =
        stream::once(async move { last.is_cancelled().then(|| Err(stopping("this stream ends here"))) });
    let told = told.filter_map(std::future::ready);
    all.take_until(closing.cancelled_owned()).chain(told).boxed()
}

/// A service whose calls end with a word when `closed` is cancelled. What a verb has begun goes on meanwhile.
#[derive(Clone, Debug)]
pub struct Closing<S> {
    inner: S,
    closed: CancellationToken,
}

impl<S> Closing<S> {
    /// The service until then.
    pub const fn new(inner: S, closed: CancellationToken) -> Self {
        Self { inner, closed }
    }
}

impl<S: NamedService> NamedService for Closing<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Closing<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (answer, closed) = (self.inner.call(request), self.closed.clone());
        Box::pin(async move {
            tokio::select! {
                // An answer that is there goes out.
                biased;
                answer = answer => answer,
                () = closed.cancelled() => {
                    let told = stopping("the request is not finished and may be rolled back: check its \
                                         result before you retry");
                    Ok(told.into_http())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_with_a_word_and_one_that_has_ended_without() {
        let closing = CancellationToken::new();
        let endless = stream::once(async { Ok(1) }).chain(stream::once(pending()));
        let mut stream = until(closing.clone(), endless);
        assert_eq!(stream.next().await.map(Result::ok), Some(Some(1)));
        closing.cancel();
        let last = stream.next().await.and_then(Result::err).map(|status| status.message().to_owned());
        assert_eq!(last.as_deref(), Some("the agent is stopping: this stream ends here"));
        assert!(stream.next().await.is_none());
        let whole = until(CancellationToken::new(), stream::once(async { Ok(1) }));
        assert_eq!(whole.collect::<Vec<_>>().await.len(), 1);
    }
}
