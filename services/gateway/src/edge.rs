//! One request at the edge, from its head to the response of the service that owns its method.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use foundry_edge::WatchEdge;
use foundry_proto::options::v1::Access;
use foundry_server::{Kind, Seat, Standing, methods};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;

use crate::admission::{Admission, Identified};
use crate::caller_limits::CallerBook;
use crate::cut::Cut;
use crate::forward;
use crate::headers;
use crate::proxies::Sender;
use crate::routes::RouteTable;
use crate::session::OwnPage;

/// The parts of an edge.
pub(crate) struct Parts {
    pub(crate) routes: RouteTable,
    pub(crate) admission: Admission,
    pub(crate) callers: CallerBook,
    pub(crate) cut: Cut,
    pub(crate) watch: WatchEdge,
}

/// Forwards requests; cloning shares it. Ids, log, deadline, size limit and drain count are in the server's layers
/// around it.
#[derive(Clone)]
pub(crate) struct Edge(Arc<Parts>);

impl Edge {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    async fn handle(self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let parts = &*self.0;
        if WatchEdge::serves(request.uri().path()) {
            return self.serve_itself(request).await;
        }

        // Find the service that owns the method.
        let route = parts.routes.find(request.uri().path())?;

        // Identify the caller here, so that no unknown one gets further.
        let sender = Sender::take(request.extensions_mut());
        let admitted = parts.admission.admit(route, request.headers(), sender, &parts.callers).await?;

        // Charge the caller, so that one cannot use up what all share; strangers share less than users do.
        let permit = parts.callers.enter(&admitted.account, route.kind)?;
        let is_open = route.access == Access::Open;
        take_seat(&request, if is_open { Standing::Anonymous } else { Standing::Identified })?;

        // Remove headers that are for the edge only, and those that a client may not set.
        headers::clean_request(request.headers_mut());
        let page = request.extensions_mut().remove::<OwnPage>().map(OwnPage::header);
        for (name, value) in admitted.headers.into_iter().chain(page) {
            request.headers_mut().insert(name, value);
        }

        // Forward without decoding or buffering messages; a drain cuts streams.
        let cut = (route.kind == Kind::Stream).then(|| parts.cut.place());
        Ok(forward::forward(route, request, cut, permit).await)
    }

    /// Serves one of the gateway's own rpcs, with the same admission and limits.
    async fn serve_itself(&self, mut request: Request<Body>) -> Result<Response<Body>, Status> {
        let parts = &*self.0;
        let sender = Sender::take(request.extensions_mut());
        let (account, identified) =
            parts.admission.admit_user(request.headers(), sender, &parts.callers).await?;
        let kind = methods::kind(request.uri().path());
        let kind = if kind.is_stream() { Kind::Stream } else { Kind::Unary };
        let permit = parts.callers.enter(&account, kind)?;
        take_seat(&request, Standing::Identified)?;
        let Identified { caller, token } = identified;
        Ok(parts.watch.serve(request, caller, token, Arc::new(permit)).await)
    }
}

/// Takes the request's seat in the gateway's bulkhead, now that it is known who calls.
fn take_seat(request: &Request<Body>, standing: Standing) -> foundry_core::Result<()> {
    request.extensions().get::<Seat>().map_or(Ok(()), |seat| seat.take(standing))
}

impl tower::Service<Request<Body>> for Edge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.clone().handle(request).map(|answer| Ok(answer.unwrap_or_else(Status::into_http))).boxed()
    }
}
