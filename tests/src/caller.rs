//! A user at the gateway: token, organization and typed clients.

use std::path::Path;

use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::auth::v1::complete_sign_in_request::Proof;
use foundry_proto::auth::v1::{CompleteSignInRequest, DevelopmentProof};
use foundry_proto::provisioner::v1::attachment_service_client::AttachmentServiceClient;
use foundry_proto::provisioner::v1::profile_service_client::ProfileServiceClient;
use foundry_proto::provisioner::v1::provisioner_service_client::ProvisionerServiceClient;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_proto::task::v1::task_service_client::TaskServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Adds the caller's token.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A channel with the caller's token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// A user at the gateway.
#[derive(Clone)]
pub struct Caller {
    /// The opaque token.
    pub token: String,
    /// Id of the organization that the sign-in opened.
    pub organization_id: String,
    channel: Authorized,
}

impl Caller {
    /// Signs in with the secret in a mesh's data directory.
    ///
    /// # Panics
    /// When that fails.
    pub async fn sign_in(gateway: &str, data: &Path, login: &str) -> Self {
        let secret = std::fs::read_to_string(data.join("auth/dev-sign-in.secret")).expect("the secret");
        let channel = Endpoint::from_shared(gateway.to_owned()).expect("address").connect_lazy();
        let proof = DevelopmentProof {
            secret: secret.trim().to_owned(),
            login: login.to_owned(),
            organization_name: String::new(),
        };
        let request = CompleteSignInRequest { proof: Some(Proof::Development(proof)), ..Default::default() };
        let answer =
            AuthServiceClient::new(channel).complete_sign_in(request).await.expect("sign-in").into_inner();
        let organization = answer.organization.expect("organization").organization_id;
        Self::with_token(gateway, &answer.session_token, &organization)
    }

    /// A caller with an existing token. Connects at the first call.
    ///
    /// # Panics
    /// When the address or the token is malformed.
    pub fn with_token(gateway: &str, token: &str, organization_id: &str) -> Self {
        let channel = Endpoint::from_shared(gateway.to_owned()).expect("address").connect_lazy();
        let value = format!("Bearer {token}").parse().expect("a token");
        Self {
            token: token.to_owned(),
            organization_id: organization_id.to_owned(),
            channel: InterceptedService::new(channel, Bearer(value)),
        }
    }

    /// A caller with an existing token, on a connection that is already open.
    ///
    /// # Panics
    /// When the gateway cannot be reached.
    pub async fn connected(gateway: &str, token: &str, organization_id: &str) -> Self {
        let channel =
            Endpoint::from_shared(gateway.to_owned()).expect("address").connect().await.expect("gateway");
        let value = format!("Bearer {token}").parse().expect("a token");
        Self {
            token: token.to_owned(),
            organization_id: organization_id.to_owned(),
            channel: InterceptedService::new(channel, Bearer(value)),
        }
    }

    /// The channel itself, for requests that are built from descriptors.
    pub fn channel(&self) -> Authorized {
        self.channel.clone()
    }

    /// The auth service.
    pub fn auth(&self) -> AuthServiceClient<Authorized> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// The repo service.
    pub fn repo(&self) -> RepoServiceClient<Authorized> {
        RepoServiceClient::new(self.channel.clone())
    }

    /// The provisioner's sandbox service.
    pub fn provisioner(&self) -> ProvisionerServiceClient<Authorized> {
        ProvisionerServiceClient::new(self.channel.clone())
    }

    /// Model providers and agent profiles, served by the provisioner.
    pub fn profiles(&self) -> ProfileServiceClient<Authorized> {
        ProfileServiceClient::new(self.channel.clone())
    }

    /// Files of messages and agents, served by the provisioner.
    pub fn attachments(&self) -> AttachmentServiceClient<Authorized> {
        AttachmentServiceClient::new(self.channel.clone())
    }

    /// The task service.
    pub fn task(&self) -> TaskServiceClient<Authorized> {
        TaskServiceClient::new(self.channel.clone())
    }
}
