//! What every service is given: its identity, its way to the others, and who checks its callers.

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

/// The services as they are reached from this process, without an identity yet.
#[derive(Clone)]
pub struct Upstreams {
    /// Auth.
    pub auth: Upstream,
    /// Repo.
    pub repo: Upstream,
    /// The provisioner.
    pub provisioner: Upstream,
    /// Task.
    pub task: Upstream,
}

/// What all services of a process share.
pub struct Wiring {
    /// Time and randomness.
    pub env: Env,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// The data directory of the mesh.
    pub mesh_dir: PathBuf,
    /// The services.
    pub upstreams: Upstreams,
    /// Makes sandbox providers besides the product's own.
    pub further: foundry_provisioner::FurtherProviders,
    /// Model providers of the environment.
    pub model_keys: foundry_provisioner::EnvironmentKeys,
}

/// What one service is given.
pub struct ServiceContext {
    /// Its identity.
    pub identity: ServiceIdentity,
    /// Who checks its callers.
    pub authenticator: Arc<Authenticator>,
    /// Owner of its background tasks.
    pub tasks: Tasks,
}

/// Name of a service.
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
    /// Where identities and their public halves are.
    pub fn keys_dir(&self) -> PathBuf {
        self.mesh_dir.join("keys")
    }

    /// What flow engines tell about themselves goes to the metrics.
    pub fn flow_hooks(&self) -> Arc<dyn foundry_flow::Hooks> {
        Arc::new(FlowMetrics(self.metrics.clone()))
    }

    /// What watches tell about themselves goes to the metrics.
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

    /// Identity, authentication and tasks of a service other than auth, whose revocations are followed from here on.
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

    /// Another service as this identity calls it.
    ///
    /// # Errors
    /// When the descriptors are unsound.
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
