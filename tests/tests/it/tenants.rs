//! Isolation of two organizations: every rpc of the descriptors is called with the other one's ids.

use std::time::{Duration, Instant};

use foundry_proto::FILE_DESCRIPTOR_SET;
use foundry_proto::auth::v1::{CreateAccessTokenRequest, ListSessionsRequest, RevokeAccessTokenRequest};
use foundry_proto::provisioner::v1::{
    AgentProfileSettings, CreateAgentProfileRequest, CreateModelProviderRequest, ModelProviderKind,
    ModelProviderSettings,
};
use foundry_proto::task::v1::WatchOrganizationRequest;
use foundry_tests::story::{await_turns, create_task, register};
use foundry_tests::{Caller, Mesh, Origin, Shape};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MethodDescriptor, Value};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

/// A codec that sends encoded messages unchanged and drops the answers.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes_put(buf, &item);
        Ok(())
    }
}

fn bytes_put(buf: &mut EncodeBuf<'_>, item: &[u8]) {
    use prost::bytes::BufMut as _;
    buf.put_slice(item);
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;
    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use prost::bytes::Buf as _;
        buf.advance(buf.remaining());
        Ok(Some(()))
    }
}

/// A plausible request whose ids all belong to another organization.
fn request(method: &MethodDescriptor, ids: &[(&str, String)]) -> Vec<u8> {
    use prost::Message as _;
    let mut message = DynamicMessage::new(method.input());
    for field in method.input().fields() {
        let known = ids.iter().find(|(name, _)| *name == field.name()).map(|(_, id)| id.clone());
        let value = match (known, field.kind()) {
            (Some(id), Kind::String) => Value::String(id),
            (None, Kind::String)
                if matches!(field.name(), "title" | "name" | "text" | "prompt" | "branch") =>
            {
                Value::String("x".to_owned())
            }
            (None, Kind::String) if field.name() == "login" => Value::String("eve".to_owned()),
            (None, Kind::String) if field.name() == "url" => {
                Value::String("https://example.org/x.git".to_owned())
            }
            (None, Kind::Enum(_)) => Value::EnumNumber(1),
            _ => continue,
        };
        message.set_field(&field, value);
    }
    message.encode_to_vec()
}

async fn call(caller: &Caller, method: &MethodDescriptor, body: Vec<u8>) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(caller.channel());
    client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let path = path.parse().map_err(|_| Status::invalid_argument("path"))?;
    let request = tonic::Request::new(futures::stream::iter([body]));
    let mut stream = client.streaming(request, path, Raw).await?.into_inner();
    stream.message().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_refuses_the_ids_of_another_organization() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let (ada, eve) = (mesh.sign_in("ada").await, mesh.sign_in("eve").await);
    let repository = register(&ada, &Origin::create(mesh.dir())).await;
    let (task, session) = create_task(&ada, &repository, "say hello").await;
    await_turns(&ada, &session.session_id, 1).await;
    let token = create_token(&ada).await;
    let (model_provider_id, profile_id) = create_profile(&ada).await;
    let ids = [
        ("organization_id", ada.organization_id.clone()),
        ("repository_id", repository.repository_id.clone()),
        ("task_id", task.task_id.clone()),
        ("session_id", session.session_id.clone()),
        ("sandbox_id", foundry_tests::story::get_task(&ada, &task.task_id).await.sandbox_id),
        ("access_token_id", token.0),
        ("model_provider_id", model_provider_id),
        ("profile_id", profile_id),
        ("message_id", session.message_id.clone()),
        ("user_id", "usr_00000000000000000000000000000000".to_owned()),
        ("credential_id", session_of(&ada).await),
    ];
    assert!(ids.iter().all(|(name, id)| !id.is_empty() || *name == "message_id"), "{ids:?}");
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let (mut tried, mut wrong) = (0, Vec::new());
    for method in pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()) {
        let concerns_an_id = method.input().fields().any(|f| ids.iter().any(|(name, _)| *name == f.name()));
        if !concerns_an_id {
            continue;
        }
        tried += 1;
        let got = call(&eve, &method, request(&method, &ids)).await;
        let refused = matches!(&got, Err(s) if matches!(s.code(), Code::NotFound | Code::PermissionDenied));
        // An id that never existed is refused as malformed; the message id is empty before the first turn.
        let shapeless = matches!(&got, Err(s) if s.code() == Code::InvalidArgument && method.name().contains("QueuedMessage"));
        if !refused && !shapeless {
            wrong.push(format!("{}: {got:?}", method.full_name()));
        }
    }
    assert!(tried > 51, "only {tried} rpcs were tried");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Id of a caller's sign-in session.
async fn session_of(caller: &Caller) -> String {
    let listed = caller.auth().list_sessions(ListSessionsRequest::default()).await.expect("sessions");
    listed.into_inner().sessions.remove(0).credential_id
}

/// Creates a model provider and an agent profile that uses it; returns their ids.
async fn create_profile(caller: &Caller) -> (String, String) {
    let settings = ModelProviderSettings {
        name: "work".to_owned(),
        kind: ModelProviderKind::Anthropic.into(),
        ..ModelProviderSettings::default()
    };
    let request = CreateModelProviderRequest {
        organization_id: caller.organization_id.clone(),
        settings: Some(settings),
        ..CreateModelProviderRequest::default()
    };
    let made = caller.profiles().create_model_provider(request).await.expect("model provider").into_inner();
    let model_provider_id = made.model_provider.expect("model provider").model_provider_id;
    let settings = AgentProfileSettings {
        name: "night".to_owned(),
        agent: "demo".to_owned(),
        model_provider_id: model_provider_id.clone(),
        ..AgentProfileSettings::default()
    };
    let request = CreateAgentProfileRequest {
        organization_id: caller.organization_id.clone(),
        settings: Some(settings),
        ..CreateAgentProfileRequest::default()
    };
    let made = caller.profiles().create_agent_profile(request).await.expect("profile").into_inner();
    (model_provider_id, made.profile.expect("profile").profile_id)
}

async fn create_token(caller: &Caller) -> (String, String) {
    let request = CreateAccessTokenRequest {
        organization_id: caller.organization_id.clone(),
        name: "story".to_owned(),
        ..CreateAccessTokenRequest::default()
    };
    let answer = caller.auth().create_access_token(request).await.expect("token").into_inner();
    (answer.access_token.expect("token").access_token_id, answer.secret)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_open_watch_and_opens_nothing_more() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let ada = mesh.sign_in("ada").await;
    let request = WatchOrganizationRequest { organization_id: ada.organization_id.clone(), options: None };
    let mut took = Vec::new();
    for _ in 0..3 {
        let (token_id, secret) = create_token(&ada).await;
        let program = Caller::with_token(&mesh.url("gateway"), &secret, &ada.organization_id);
        let mut watch = program.task().watch_organization(request.clone()).await.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        let revoke = RevokeAccessTokenRequest { request_id: String::new(), access_token_id: token_id };
        ada.auth().revoke_access_token(revoke).await.unwrap();
        let begun = Instant::now();
        // Without the revocation, only the token's expiry after five minutes would end it.
        let ended = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                if let Err(status) = watch.message().await {
                    return status;
                }
            }
        })
        .await
        .expect("the watch must end");
        took.push(begun.elapsed());
        assert_eq!(ended.code(), Code::Unauthenticated);
        let again = program.task().watch_organization(request.clone()).await.unwrap_err();
        assert_eq!(again.code(), Code::Unauthenticated);
    }
    // A busy machine may delay some of them, but not all.
    assert!(took.iter().any(|t| *t < Duration::from_secs(1)), "it must end within a second: {took:?}");
}
