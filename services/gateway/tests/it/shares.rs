//! Nobody takes the room of others: callers without a valid credential, and users with many tokens.

use foundry_core::Code;
use foundry_gateway::Config;
use foundry_proto::task::v1::GetTaskRequest;
use foundry_server::config::Limits;
use http::{Request, Response};
use http_body_util::StreamBody;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tower::ServiceExt as _;

use crate::mesh::{Mesh, Reached, bounded, reason};

/// A sign-in of which only the headers arrive.
async fn headers_only(mesh: &Mesh) -> Response<Body> {
    let body = StreamBody::new(futures::stream::pending::<Result<http_body::Frame<bytes::Bytes>, Status>>());
    let request = Request::post("/foundry.auth.v1.AuthService/CompleteSignIn")
        .header("content-type", "application/grpc")
        .body(Body::new(body))
        .unwrap();
    // An upstream would wait for the end of the body.
    Endpoint::from_shared(mesh.gateway.url()).unwrap().connect_lazy().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn callers_without_a_credential_take_no_room_of_users() {
    let limits = Limits { unary_calls: 2, anonymous_calls: 2, ..Limits::default() };
    let mesh = Mesh::start_limited(Reached::Locally, Config::default(), limits).await;
    let strangers = futures::future::join(headers_only(&mesh), headers_only(&mesh));
    let others = async {
        while mesh.behind.calls("/CompleteSignIn") < 2 {
            tokio::task::yield_now().await;
        }
        let third = headers_only(&mesh).await;
        let refused = Status::from_header_map(third.headers()).unwrap();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "OVERLOADED"));
        let details = tonic_types::StatusExt::get_error_details(&refused);
        assert_eq!(details.error_info().unwrap().metadata["limit"], "anonymous_calls");

        // A token that was never seen before, one that was, and none.
        mesh.get("task_1", "fds_1").await.unwrap();
        mesh.get("task_1", "fds_1").await.unwrap();
        let missing = mesh.client().get_task(tonic::Request::new(GetTaskRequest::default())).await;
        assert_eq!(reason(&missing.unwrap_err()), "TOKEN_MISSING", "refused as such, not for want of room");
    };
    tokio::select! {
        _ = strangers => panic!("their bodies never end"),
        () = bounded(others) => {}
    }
}
