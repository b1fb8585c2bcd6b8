//! Builds each service from its configuration and the shared wiring.

use foundry_core::Tasks;
use foundry_server::{DataDirectory, Service};
use tokio::sync::mpsc::UnboundedReceiver;

use super::config::MeshConfig;
use super::wiring::Wiring;
use crate::cli::ServiceName;
use crate::failure::Failure;

/// A built service, and what must live as long as it does.
pub struct RunningService {
    /// Its routes, phases and background tasks, ready to be mounted.
    pub service: Service,
    /// Receives the panics of its background tasks.
    pub failures: UnboundedReceiver<foundry_core::TaskFailure>,
    /// Reports which sandboxes keep running after a stop; from the provisioner only.
    pub survivors: Option<foundry_provisioner::Survivors>,
}

/// Builds one service and starts its background work. All but the gateway have a data directory.
///
/// # Errors
/// When its database cannot be opened.
pub async fn build(
    service: ServiceName,
    data: Option<&DataDirectory>,
    config: &MeshConfig,
    wiring: &Wiring,
) -> Result<RunningService, Failure> {
    match (service, data) {
        (ServiceName::Auth, Some(data)) => auth(data, config, wiring).await,
        (ServiceName::Repo, Some(data)) => repo(data, config, wiring).await,
        (ServiceName::Provisioner, Some(data)) => provisioner(data, config, wiring).await,
        (ServiceName::Task, Some(data)) => task(data, config, wiring).await,
        (ServiceName::Gateway, _) => gateway(config, wiring).await,
        (_, None) => Err(Failure::new(format!("{service:?} has no data directory"))),
    }
}

async fn auth(data: &DataDirectory, config: &MeshConfig, wiring: &Wiring) -> Result<RunningService, Failure> {
    let (tasks, failures) = Tasks::new();
    // Auth's identity is published like the others', so that all keys are in one place.
    foundry_authn::ServiceIdentity::load_or_create(&wiring.keys_dir(), "auth", &wiring.env)?;
    let deps = foundry_auth::Dependencies {
        env: wiring.env.clone(),
        tasks,
        data_dir: data.path().to_owned(),
        keys_dir: wiring.keys_dir(),
        watch_observer: wiring.watch_observer(),
    };
    let service = foundry_auth::build(config.auth.clone(), deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}

async fn repo(data: &DataDirectory, config: &MeshConfig, wiring: &Wiring) -> Result<RunningService, Failure> {
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(ServiceName::Repo, tasks)?;
    let deps = foundry_repo::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        data,
        mesh_dir: wiring.mesh_dir.clone(),
        authenticator: context.authenticator,
        flow_hooks: wiring.flow_hooks(),
        watch_observer: wiring.watch_observer(),
    };
    let service = foundry_repo::build(&config.repo, deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}

async fn provisioner(
    data: &DataDirectory,
    config: &MeshConfig,
    wiring: &Wiring,
) -> Result<RunningService, Failure> {
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(ServiceName::Provisioner, tasks)?;
    let survivors = foundry_provisioner::Survivors::default();
    let deps = foundry_provisioner::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        data,
        authenticator: context.authenticator,
        repo: wiring.upstream(&context.identity, ServiceName::Repo)?,
        further_providers: wiring.further.clone(),
        flow_hooks: wiring.flow_hooks(),
        watch_observer: wiring.watch_observer(),
        survivors: survivors.clone(),
        environment: wiring.model_keys.clone(),
    };
    let service = foundry_provisioner::build(config.provisioner.clone(), deps).await?;
    Ok(RunningService { service, failures, survivors: Some(survivors) })
}

async fn task(data: &DataDirectory, config: &MeshConfig, wiring: &Wiring) -> Result<RunningService, Failure> {
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(ServiceName::Task, tasks)?;
    let deps = foundry_task::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        data,
        authenticator: context.authenticator,
        identity: context.identity,
        provisioner: wiring.upstreams.provisioner.clone(),
        repo: wiring.upstreams.repo.clone(),
        flow_hooks: wiring.flow_hooks(),
        watch_observer: wiring.watch_observer(),
    };
    // The operator's own agents are configured once, in the provisioner's section.
    let mut task = config.task.clone();
    task.agents.extend(config.provisioner.agents.keys().cloned());
    let service = foundry_task::build(&task, deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}

async fn gateway(config: &MeshConfig, wiring: &Wiring) -> Result<RunningService, Failure> {
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(ServiceName::Gateway, tasks)?;
    let upstreams = &wiring.upstreams;
    let deps = foundry_gateway::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        // Without an identity: the gateway forwards each request as its caller's.
        upstreams: [
            ("auth", &upstreams.auth),
            ("repo", &upstreams.repo),
            ("provisioner", &upstreams.provisioner),
            ("task", &upstreams.task),
        ]
        .map(|(name, upstream)| (name, upstream.clone()))
        .into(),
        authenticator: context.authenticator,
        identity: context.identity,
        watch_observer: wiring.watch_observer(),
    };
    let service = foundry_gateway::build(&config.gateway, deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}
