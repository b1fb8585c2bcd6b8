//! Builds each service from its configuration and the shared wiring.

use std::pin::Pin;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use foundry_core::Tasks;
use foundry_server::{DataDirectory, Service};
use tokio::sync::mpsc::UnboundedReceiver;

use super::config::MeshConfig;
use super::wiring::Wiring;
use crate::failure::Failure;

/// Makes the table, one line per service. The function of the same name in this file builds the service.
macro_rules! services {
    ($($name:ident $port:literal $starts:literal $drains:literal $has_data:literal $is_called:literal;)*) => {
        /// All services of the mesh, in the order in which they are shown to people. Commands, configuration, wiring,
        /// start and drain have no other list of them.
        pub static SERVICES: &[MeshService] = &[$(MeshService {
            name: stringify!($name),
            port: $port,
            starts: $starts,
            drains: $drains,
            has_data: $has_data,
            is_called: $is_called,
            build: |inputs| Box::pin($name(inputs)),
        }),*];
    };
}

services! {
    // name      port  starts  drains  has_data  is_called
    gateway      7100  50      10      false     false;
    auth         7101  10      50      true      true;
    repo         7102  20      30      true      true;
    provisioner  7103  30      40      true      true;
    task         7104  40      20      true      true;
}

/// A line of the table.
#[derive(Clone, Copy)]
pub struct MeshService {
    /// The name of its package of rpcs, of its identity, of its directory and of its sections of the configuration.
    pub name: &'static str,
    /// Where it listens on the loopback interface by default.
    pub port: u16,
    /// Its place in the order of a start: after those that it calls. Places may have gaps.
    starts: u16,
    /// Its place in the order of a stop. Places may have gaps.
    drains: u16,
    /// Whether it has a directory of its own below the data directory, with its database unless that is elsewhere.
    pub has_data: bool,
    /// Whether other services call it, the gateway among them: then the configuration says where, `upstreams.NAME`,
    /// and the gateway routes to it.
    pub is_called: bool,
    /// Builds it and starts its background work; fails when its database cannot be opened.
    pub build: for<'a> fn(ServiceInputs<'a>) -> Building<'a>,
}

/// A service that is being built.
pub type Building<'a> = Pin<Box<dyn Future<Output = Result<RunningService, Failure>> + 'a>>;

impl ValueEnum for MeshService {
    fn value_variants<'a>() -> &'a [Self] {
        SERVICES
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name))
    }
}

/// All services in the order in which they start; each finds those it calls first.
pub fn in_start_order() -> Vec<MeshService> {
    let mut services = SERVICES.to_vec();
    services.sort_by_key(|service| service.starts);
    services
}

/// The names of all services in the order in which those of one process drain.
pub fn drain_order() -> Vec<&'static str> {
    let mut services = SERVICES.to_vec();
    services.sort_by_key(|service| service.drains);
    services.iter().map(|service| service.name).collect()
}

/// The services that others call.
pub fn called() -> impl Iterator<Item = &'static MeshService> {
    SERVICES.iter().filter(|service| service.is_called)
}

/// What a service is built from.
#[derive(Clone, Copy)]
pub struct ServiceInputs<'a> {
    /// The service's name in the table.
    pub name: &'static str,
    /// Its data directory, if it has one.
    pub data: Option<&'a DataDirectory>,
    /// The configuration of the mesh; each service reads its own section.
    pub config: &'a MeshConfig,
    /// What all services of the process share.
    pub wiring: &'a Wiring,
}

impl<'a> ServiceInputs<'a> {
    fn data(&self) -> Result<&'a DataDirectory, Failure> {
        self.data.ok_or_else(|| Failure::new(format!("{} has no data directory", self.name)))
    }
}

/// A built service and what must live as long as it.
pub struct RunningService {
    /// Its routes, phases and background tasks, ready to be mounted.
    pub service: Service,
    /// Receives the panics of its background tasks.
    pub failures: UnboundedReceiver<foundry_core::TaskFailure>,
    /// Reports which sandboxes keep running after a stop; from the provisioner only.
    pub survivors: Option<foundry_provisioner::Survivors>,
}

async fn auth(inputs: ServiceInputs<'_>) -> Result<RunningService, Failure> {
    let ServiceInputs { config, wiring, .. } = inputs;
    let (tasks, failures) = Tasks::new();
    // Its own identity is published like the others', so that all keys are in one place.
    foundry_authn::ServiceIdentity::load_or_create(&wiring.keys_dir(), inputs.name, &wiring.env)?;
    let deps = foundry_auth::Dependencies {
        env: wiring.env.clone(),
        tasks,
        data: inputs.data()?,
        keys_dir: wiring.keys_dir(),
        public_url: config.gateway.public_url.clone(),
        flow_hooks: wiring.flow_hooks(),
        watch_observer: wiring.watch_observer(),
    };
    let mut settings = config.auth.clone();
    if settings.network == foundry_http_client::NetworkSettings::default() {
        settings.network = config.provisioner.network.clone();
    }
    let service = foundry_auth::build(settings, deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}

async fn repo(inputs: ServiceInputs<'_>) -> Result<RunningService, Failure> {
    let ServiceInputs { config, wiring, .. } = inputs;
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(inputs.name, tasks)?;
    let deps = foundry_repo::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        data: inputs.data()?,
        mesh_dir: wiring.mesh_dir.clone(),
        authenticator: context.authenticator,
        flow_hooks: wiring.flow_hooks(),
        watch_observer: wiring.watch_observer(),
    };
    let mut settings = config.repo.clone();
    if settings.network == foundry_http_client::NetworkSettings::default() {
        settings.network = config.provisioner.network.clone();
    }
    let service = foundry_repo::build(&settings, deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}

async fn provisioner(inputs: ServiceInputs<'_>) -> Result<RunningService, Failure> {
    let ServiceInputs { config, wiring, .. } = inputs;
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(inputs.name, tasks)?;
    let survivors = foundry_provisioner::Survivors::default();
    let deps = foundry_provisioner::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        data: inputs.data()?,
        authenticator: context.authenticator,
        repo: wiring.upstream_as(&context.identity, "repo")?,
        further_providers: wiring.further.clone(),
        flow_hooks: wiring.flow_hooks(),
        watch_observer: wiring.watch_observer(),
        survivors: survivors.clone(),
        environment: wiring.model_keys.clone(),
    };
    let service = foundry_provisioner::build(config.provisioner.clone(), deps).await?;
    Ok(RunningService { service, failures, survivors: Some(survivors) })
}

async fn task(inputs: ServiceInputs<'_>) -> Result<RunningService, Failure> {
    let ServiceInputs { config, wiring, .. } = inputs;
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(inputs.name, tasks)?;
    let deps = foundry_task::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        data: inputs.data()?,
        authenticator: context.authenticator,
        identity: context.identity,
        provisioner: wiring.upstream("provisioner")?,
        repo: wiring.upstream("repo")?,
        flow_hooks: wiring.flow_hooks(),
        watch_observer: wiring.watch_observer(),
    };
    // The operator's own agents are configured once, in the provisioner's section.
    let mut task = config.task.clone();
    task.agents.extend(config.provisioner.agents.keys().cloned());
    let service = foundry_task::build(&task, deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}

async fn gateway(inputs: ServiceInputs<'_>) -> Result<RunningService, Failure> {
    let ServiceInputs { config, wiring, .. } = inputs;
    let (tasks, failures) = Tasks::new();
    let context = wiring.context_for(inputs.name, tasks)?;
    let deps = foundry_gateway::Dependencies {
        env: wiring.env.clone(),
        tasks: context.tasks,
        // Without an identity: a request is passed on as its caller's.
        upstreams: wiring.upstreams.clone(),
        authenticator: context.authenticator,
        identity: context.identity,
        watch_observer: wiring.watch_observer(),
    };
    let service = foundry_gateway::build(&config.gateway, deps).await?;
    Ok(RunningService { service, failures, survivors: None })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_the_services_of_the_contract_each_in_a_place_of_its_own() {
        let names: BTreeSet<_> = SERVICES.iter().map(|service| service.name).collect();
        assert_eq!(
            names,
            *foundry_authn::services(),
            "a package of rpcs without its line, or a line without its package"
        );
        let columns: [fn(&MeshService) -> u16; 3] = [|s| s.port, |s| s.starts, |s| s.drains];
        for column in columns {
            let places: BTreeSet<_> = SERVICES.iter().map(column).collect();
            assert_eq!(places.len(), SERVICES.len(), "two services have the same place: {places:?}");
        }
    }

    #[test]
    fn every_service_may_follow_the_revocations_of_auth() {
        let policies = foundry_authn::MethodPolicies::shared().unwrap();
        let method = policies.get("/foundry.auth.v1.AuthService/WatchRevocations").unwrap();
        let allowed = &method.policy.as_ref().unwrap().services;
        for service in SERVICES.iter().filter(|service| service.name != foundry_auth::NAME) {
            assert!(allowed.iter().any(|name| name == service.name), "{} is not in its policy", service.name);
        }
    }

    #[test]
    fn a_mesh_starts_with_auth_and_stops_with_it() {
        let started: Vec<_> = in_start_order().iter().map(|service| service.name).collect();
        assert_eq!((started.first(), started.last()), (Some(&"auth"), Some(&"gateway")));
        assert_eq!((drain_order().first(), drain_order().last()), (Some(&"gateway"), Some(&"auth")));
    }
}
