//! The routes of a listener: gRPC (and gRPC-Web where enabled) through the stack, everything else as plain HTTP.

use futures::future::Either;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use tonic::body::Body;
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::service::Mounted;
use crate::stack::Routed;

/// The service behind the listener of a mounted service.
pub(crate) fn dispatch(mounted: &Mounted) -> Routed {
    let stack = mounted.stack.clone();
    let grpc: Routed = if mounted.grpc_web {
        // Around the gRPC routes only: around a whole router it would answer every other request with 400.
        BoxCloneSyncService::new(tonic_web::GrpcWebLayer::new().layer(stack.clone()))
    } else {
        BoxCloneSyncService::new(stack.clone())
    };
    let plain: Routed = match mounted.plain.clone() {
        Some(router) => routed(router),
        None => BoxCloneSyncService::new(service_fn(|_| async { Ok(not_grpc()) })),
    };
    let both = service_fn(move |request: Request<Body>| {
        if is_grpc(&request) {
            Either::Left(grpc.clone().oneshot(request))
        } else {
            Either::Right(stack.clone().handle_plain(plain.clone(), request))
        }
    });
    let both = BoxCloneSyncService::new(both);
    match &mounted.edge {
        Some(wrap) => wrap(both),
        None => both,
    }
}

/// An axum router as a service of this crate's types.
pub(crate) fn routed(router: axum::Router) -> Routed {
    BoxCloneSyncService::new(service_fn(move |request: Request<Body>| {
        let answer = router.clone().oneshot(request.map(axum::body::Body::new));
        async move { answer.await.map(|response| response.map(Body::new)) }
    }))
}

fn is_grpc(request: &Request<Body>) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/grpc"))
}

fn not_grpc() -> Response<Body> {
    let text = "this is a gRPC port; try: grpcurl -plaintext <address> list\n";
    let mut response =
        Response::new(Body::new(http_body_util::Full::new(bytes::Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}
