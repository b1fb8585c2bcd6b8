//! The signing keys as the auth service publishes them.

use std::time::Duration;

use foundry_core::Error;
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::auth::v1::{GetSigningKeysRequest, SigningKey};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::{Body as HttpBody, Bytes, StdError};

use crate::KeySource;

/// Reads the keys from the auth service over an upstream.
pub struct UpstreamKeys<T>(AuthServiceClient<T>);

impl<T> UpstreamKeys<T>
where
    T: GrpcService<Body> + Clone,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    /// Reads over this upstream of the auth service.
    pub fn new(upstream: T) -> Self {
        Self(AuthServiceClient::new(upstream))
    }
}

#[async_trait::async_trait]
impl<T> KeySource for UpstreamKeys<T>
where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<StdError>,
    T::ResponseBody: HttpBody<Data = Bytes> + Send + 'static,
    <T::ResponseBody as HttpBody>::Error: Into<StdError> + Send,
{
    async fn keys(&self) -> Result<Vec<SigningKey>, Error> {
        let answer = self.0.clone().get_signing_keys(GetSigningKeysRequest {}).await.map_err(|status| {
            Error::unavailable("KEYS_UNREAD", "the auth service did not answer", Duration::from_secs(1))
                .caused_by(status)
        })?;
        Ok(answer.into_inner().keys)
    }
}
