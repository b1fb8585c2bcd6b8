//! What every service is given: its identity, connections to the others, and the check of its callers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{
    AUTH_ISSUER, Authenticator, IdentityLayer, KeyRing, Revocations, ServiceIdentity, UpstreamKeys,
    keep_revocations,
};
use foundry_core::{Env, Tasks};
use foundry_server::{DataDirectory, Metrics, Upstream};

use super::hooks::{FlowMetrics, WatchMetrics};
use super::services::MeshService;
use crate::failure::Failure;

/// The services that others call as they are reached from this process, by name, without an identity yet.
pub type Upstreams = BTreeMap<&'static str, Upstream>;

/// How long a start waits for the locks of a process that is ending.
const LETS_GO: Duration = Duration::from_secs(2);

/// What all services of this process share.
pub struct Wiring {
    /// Clock and random source.
    pub env: Env,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// The data directory of the mesh.
    pub mesh_dir: PathBuf,
    /// Connections to the services, to which each caller adds its identity.
    pub upstreams: Upstreams,
    /// Creates sandbox providers in addition to the product's own.
    pub further: foundry_provisioner::FurtherProviders,
    /// Model providers from the environment.
    pub model_keys: foundry_provisioner::EnvironmentKeys,
}

/// What [`Wiring::context_for`] prepares for one service.
pub struct ServiceContext {
    /// The key with which it signs its calls to other services.
    pub identity: ServiceIdentity,
    /// Verifies its callers' tokens.
    pub authenticator: Arc<Authenticator>,
    /// The owner of its background tasks.
    pub tasks: Tasks,
}

impl Wiring {
    /// Directory of the services' identities and their public halves.
    pub fn keys_dir(&self) -> PathBuf {
        self.mesh_dir.join("keys")
    }

    /// Records flow engines in the metrics.
    pub fn flow_hooks(&self) -> Arc<dyn foundry_flow::Hooks> {
        Arc::new(FlowMetrics(self.metrics.clone()))
    }

    /// Records watches in the metrics.
    pub fn watch_observer(&self) -> Arc<dyn foundry_watch::Observer> {
        Arc::new(WatchMetrics(self.metrics.clone()))
    }

    /// Opens and locks the data directory of a service, if it has one. Waits a moment for a mesh that was just killed.
    ///
    /// # Errors
    /// When another process holds it.
    pub async fn data(&self, service: &MeshService) -> Result<Option<DataDirectory>, Failure> {
        if !service.has_data {
            return Ok(None);
        }
        let path = self.mesh_dir.join(service.name);
        let opened = DataDirectory::open_within(path, LETS_GO, &self.env).await;
        opened.map(Some).map_err(|e| {
            Failure::new(e.to_string()).next("stop the other process, or choose another --data-dir")
        })
    }

    /// Prepares identity and authentication of a service other than auth, and starts to follow auth's revocations.
    ///
    /// # Errors
    /// When the identity's key cannot be read.
    pub fn context_for(&self, name: &str, tasks: Tasks) -> Result<ServiceContext, Failure> {
        let identity = ServiceIdentity::load_or_create(&self.keys_dir(), name, &self.env)?;
        let keys =
            KeyRing::new(Arc::new(UpstreamKeys::new(self.upstream(AUTH_ISSUER)?)), self.env.clock.clone());
        let revocations = Revocations::new();
        keep_revocations(
            self.upstream_as(&identity, AUTH_ISSUER)?,
            revocations.clone(),
            &self.env,
            &tasks,
            self.watch_observer(),
        );
        let authenticator = Arc::new(Authenticator::new(name, keys, revocations, &self.env)?);
        Ok(ServiceContext { identity, authenticator, tasks })
    }

    /// Another service, without an identity.
    ///
    /// # Errors
    /// When others do not call a service of this name.
    pub fn upstream(&self, name: &str) -> Result<Upstream, Failure> {
        let upstream = self.upstreams.get(name).cloned();
        upstream.ok_or_else(|| Failure::new(format!("{name} is not a service that others call")))
    }

    /// Another service as this identity calls it.
    ///
    /// # Errors
    /// As [`Self::upstream`], and when the descriptors are unsound.
    pub fn upstream_as(&self, identity: &ServiceIdentity, name: &str) -> Result<Upstream, Failure> {
        Ok(self.upstream(name)?.layer(IdentityLayer::new(identity.clone(), name)?))
    }
}
