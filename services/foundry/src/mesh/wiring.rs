//! What every service is given: its identity, connections to the others, and the check of its callers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foundry_authn::{
    Authenticator, IdentityLayer, KeyRing, Revocations, ServiceIdentity, UpstreamKeys, keep_revocations,
};
use foundry_core::{Env, Result, Tasks};
use foundry_server::{DataDirectory, Metrics, Upstream};

use super::hooks::{FlowMetrics, WatchMetrics};
use crate::cli::ServiceName;
use crate::failure::Failure;

/// Connections to the services from this process, without an identity.
#[derive(Clone)]
pub struct Upstreams {
    pub auth: Upstream,
    pub repo: Upstream,
    pub provisioner: Upstream,
    pub task: Upstream,
}

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

pub fn name(service: ServiceName) -> &'static str {
    match service {
        ServiceName::Gateway => "gateway",
        ServiceName::Auth => "auth",
        ServiceName::Repo => "repo",
        ServiceName::Provisioner => "provisioner",
        ServiceName::Task => "task",
    }
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

    /// Opens and locks the data directory of a service; the gateway has none.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn data(&self, service: ServiceName) -> std::result::Result<Option<DataDirectory>, Failure> {
        let has = service != ServiceName::Gateway;
        has.then(|| open(&self.mesh_dir.join(name(service)))).transpose()
    }

    /// Prepares identity and authentication of a service other than auth, and starts to follow auth's revocations.
    ///
    /// # Errors
    /// When the identity's key cannot be read.
    pub fn context_for(&self, service: ServiceName, tasks: Tasks) -> Result<ServiceContext> {
        let name = name(service);
        let identity = ServiceIdentity::load_or_create(&self.keys_dir(), name, &self.env)?;
        let keys =
            KeyRing::new(Arc::new(UpstreamKeys::new(self.upstreams.auth.clone())), self.env.clock.clone());
        let revocations = Revocations::new();
        keep_revocations(
            self.upstream(&identity, ServiceName::Auth)?,
            revocations.clone(),
            &self.env,
            &tasks,
            self.watch_observer(),
        );
        let authenticator = Arc::new(Authenticator::new(name, keys, revocations, &self.env)?);
        Ok(ServiceContext { identity, authenticator, tasks })
    }

    /// A connection to another service that adds this identity to each call.
    ///
    /// # Errors
    /// `INTERNAL` when the authorization entries cannot be read from the descriptors.
    pub fn upstream(&self, identity: &ServiceIdentity, target: ServiceName) -> Result<Upstream> {
        let upstreams = match target {
            ServiceName::Auth | ServiceName::Gateway => &self.upstreams.auth,
            ServiceName::Repo => &self.upstreams.repo,
            ServiceName::Provisioner => &self.upstreams.provisioner,
            ServiceName::Task => &self.upstreams.task,
        };
        Ok(upstreams.clone().layer(IdentityLayer::new(identity.clone(), name(target))?))
    }
}

fn open(path: &Path) -> std::result::Result<DataDirectory, Failure> {
    DataDirectory::open(path)
        .map_err(|e| Failure::new(e.to_string()).next("stop the other process, or choose another --data-dir"))
}
