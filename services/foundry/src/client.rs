//! Clients of the gateway, with the caller's token on every call.

use foundry_http_client::NetworkSettings;
use foundry_proto::auth::v1::GetUserRequest;
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::provisioner::v1::attachment_service_client::AttachmentServiceClient;
use foundry_proto::provisioner::v1::profile_service_client::ProfileServiceClient;
use foundry_proto::provisioner::v1::provisioner_service_client::ProvisionerServiceClient;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_proto::task::v1::task_service_client::TaskServiceClient;
use foundry_server::https_channel;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::cli::Global;
use crate::credentials::Credentials;
use crate::failure::Failure;

/// A channel that adds the caller's token to each call.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Adds the caller's token to a call; none for an anonymous client.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// A connection to the gateway as one caller.
#[derive(Clone)]
pub struct Gateway {
    channel: Authorized,
    address: String,
    token: String,
    organization: Option<String>,
}

impl Gateway {
    /// A client without a token, for signing in.
    ///
    /// # Errors
    /// When the address is malformed.
    pub fn anonymous(global: &Global) -> Result<Self, Failure> {
        Ok(Self {
            channel: InterceptedService::new(channel(&global.address)?, Bearer(None)),
            address: global.address.clone(),
            token: String::new(),
            organization: None,
        })
    }

    /// A client with the given token, or the one that `foundry login` stored.
    ///
    /// # Errors
    /// When there is no token or the address is malformed.
    pub fn signed_in(global: &Global) -> Result<Self, Failure> {
        let remembered = match &global.token {
            Some(_) => None,
            None => Credentials::of_user()?.get(&global.address)?,
        };
        let token =
            global.token.clone().or_else(|| remembered.as_ref().map(|c| c.token.clone())).ok_or_else(
                || {
                    Failure::new(format!("not signed in to {}", global.address))
                        .next("run `foundry login`, or set FOUNDRY_TOKEN")
                        .exit(3)
                },
            )?;
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| Failure::new("the token contains invalid characters").exit(2))?;
        value.set_sensitive(true);
        let organization = global.organization.clone().or_else(|| remembered.map(|c| c.organization_id));
        Ok(Self {
            channel: InterceptedService::new(channel(&global.address)?, Bearer(Some(value))),
            address: global.address.clone(),
            token,
            organization,
        })
    }

    /// The auth service.
    pub fn auth(&self) -> AuthServiceClient<Authorized> {
        AuthServiceClient::new(self.channel.clone())
    }

    /// The repo service.
    pub fn repo(&self) -> RepoServiceClient<Authorized> {
        RepoServiceClient::new(self.channel.clone())
    }

    /// The task service.
    pub fn task(&self) -> TaskServiceClient<Authorized> {
        TaskServiceClient::new(self.channel.clone())
    }

    /// The provisioner service.
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

    /// The token of the caller, for programs that call the gateway by themselves.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The address from which git fetches a repository.
    pub fn git_url(&self, organization_id: &str, repository_id: &str) -> String {
        self.address_of(&format!("/git/{organization_id}/{repository_id}"))
    }

    /// The address of a path of the gateway.
    pub fn address_of(&self, path: &str) -> String {
        format!("{}{path}", self.address.trim_end_matches('/'))
    }

    /// Id of the chosen organization, or of the caller's only one.
    ///
    /// # Errors
    /// When several organizations match, or none.
    pub async fn organization(&self) -> Result<String, Failure> {
        if let Some(id) = self.organization.as_ref().filter(|o| o.starts_with("org_")) {
            return Ok(id.clone());
        }
        let memberships = self.auth().get_user(GetUserRequest {}).await?.into_inner().memberships;
        let mut matching = memberships
            .into_iter()
            .filter(|m| self.organization.as_ref().is_none_or(|name| *name == m.organization_name));
        match (matching.next(), matching.next()) {
            (Some(one), None) => Ok(one.organization_id),
            (None, _) => Err(Failure::new("you are not a member of that organization").exit(4)),
            (Some(_), Some(_)) => Err(Failure::new("you are a member of several organizations")
                .next("choose one with --organization")
                .exit(2)),
        }
    }
}

fn channel(address: &str) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|e| Failure::new(format!("{address} is not a valid address: {e}")).exit(2))?
        .connect_timeout(std::time::Duration::from_secs(5))
        .http2_keep_alive_interval(std::time::Duration::from_secs(20))
        .keep_alive_timeout(std::time::Duration::from_secs(10));
    if endpoint.uri().scheme_str() != Some("https") {
        return Ok(endpoint.connect_lazy());
    }
    // The system's authorities, or those of SSL_CERT_FILE.
    let trusting = NetworkSettings::default().tls();
    let trusting = trusting.map_err(|e| Failure::new(format!("certificates cannot be read: {e}")))?;
    Ok(https_channel(&endpoint, trusting))
}

/// A new id for one request; calls repeated with the same id take effect only once.
pub fn request_id() -> String {
    let env = foundry_core::Env::system();
    env.random.uuid_at(env.clock.now()).simple().to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[tokio::test]
    async fn a_mesh_that_is_down_is_named_with_its_address_and_what_to_do() {
        // Bound but not listening: it refuses connections, and no other process can get the port.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        let args = ["foundry", "agents", "--address", &address, "--token", "x", "--organization", "org_1"];
        let failure =
            crate::commands::run(Cli::parse_from(args), crate::no_further_providers()).await.unwrap_err();
        assert_eq!(failure.code, 5);
        let words = format!("{} {}", failure.message, failure.next_action);
        for part in [address.as_str(), "`foundry up`", "--address"] {
            assert!(words.contains(part), "{words}");
        }
    }
}
