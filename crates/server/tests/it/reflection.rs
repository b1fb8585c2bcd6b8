//! Reflection in both versions, open to everybody.

use crate::support::{Probe, SERVICE, bounded};
use foundry_server::testing::TestServer;
use futures::StreamExt as _;
use prost::Message as _;

macro_rules! reflection_test {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let deny = tower::layer::layer_fn(|_inner: foundry_server::Routed| {
                tower::service_fn(|_: http::Request<tonic::body::Body>| async {
                    Ok::<_, std::convert::Infallible>(tonic::Status::unauthenticated("no").into_http())
                })
            });
            let server = TestServer::start(Probe::default().service().authenticated_by(deny)).await.unwrap();
            let ask = |what: MessageRequest| {
                let mut client = ServerReflectionClient::new(server.remote().unwrap());
                async move {
                    let request =
                        ServerReflectionRequest { host: String::new(), message_request: Some(what) };
                    let answers =
                        client.server_reflection_info(futures::stream::iter([request])).await.unwrap();
                    answers.into_inner().next().await.unwrap().unwrap().message_response.unwrap()
                }
            };
            let listed = bounded(ask(MessageRequest::ListServices(String::new()))).await;
            let MessageResponse::ListServicesResponse(list) = listed else { panic!("{listed:?}") };
            let names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
            assert_eq!(
                names,
                [
                    SERVICE,
                    "grpc.health.v1.Health",
                    "grpc.reflection.v1.ServerReflection",
                    "grpc.reflection.v1alpha.ServerReflection",
                ]
            );
            for symbol in names {
                let described = bounded(ask(MessageRequest::FileContainingSymbol(symbol.clone()))).await;
                let MessageResponse::FileDescriptorResponse(files) = described else {
                    panic!("{symbol} is listed but not described: {described:?}")
                };
                let file =
                    prost_types::FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice())
                        .unwrap();
                assert!(symbol.starts_with(file.package()), "{symbol} in {}", file.package());
            }
        }
    };
}

reflection_test!(version_1_lists_and_describes_the_services_own, v1);
reflection_test!(version_1_alpha_lists_and_describes_the_services_own, v1alpha);
