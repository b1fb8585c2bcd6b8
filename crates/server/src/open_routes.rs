//! Health and reflection, which every server answers without a token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foundry_core::Error;
use tokio::sync::Mutex;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Health of one server: overall and by service name; cloning shares it.
///
/// A service is healthy while the server serves, its database takes writes, and no failure of the service is reported.
/// The server is healthy while all its services are.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    state: Arc<Mutex<State>>,
    writable: Arc<AtomicBool>,
}

#[derive(Debug)]
struct State {
    serving: bool,
    services: BTreeMap<String, bool>,
}

impl Health {
    /// Not serving yet.
    pub(crate) fn new(services: &[String]) -> Self {
        let services = services.iter().map(|name| (name.clone(), true)).collect();
        let state = Arc::new(Mutex::new(State { serving: false, services }));
        Self { reporter: HealthReporter::new(), state, writable: Arc::new(AtomicBool::new(true)) }
    }

    /// Sets whether the server serves.
    pub(crate) async fn set(&self, serving: bool) {
        let mut state = self.state.lock().await;
        state.serving = serving;
        self.publish(&state).await;
    }

    /// Reports whether a service works.
    pub async fn report(&self, service: &str, works: bool) {
        let mut state = self.state.lock().await;
        let Some(known) = state.services.get_mut(service) else { return };
        if std::mem::replace(known, works) != works {
            self.publish(&state).await;
        }
    }

    /// Reports whether the database of this server takes writes; also in the readiness of the process.
    pub async fn report_writable(&self, writable: bool) {
        let state = self.state.lock().await;
        if self.writable.swap(writable, Ordering::AcqRel) != writable {
            self.publish(&state).await;
        }
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire)
    }

    /// Whether each service is healthy now, by name.
    pub async fn services(&self) -> BTreeMap<String, bool> {
        let state = self.state.lock().await;
        let up = state.serving && self.is_writable();
        state.services.iter().map(|(name, works)| (name.clone(), up && *works)).collect()
    }

    async fn publish(&self, state: &State) {
        let up = state.serving && self.is_writable();
        let status = |works| if works { ServingStatus::Serving } else { ServingStatus::NotServing };
        for (name, works) in &state.services {
            self.reporter.set_service_status(name, status(up && *works)).await;
        }
        let overall = up && state.services.values().all(|works| *works);
        self.reporter.set_service_status("", status(overall)).await;
    }
}

/// The open routes: health, and reflection in the two versions that clients use.
///
/// Reflection lists the given services only; it describes any type of the protos.
pub(crate) fn open_routes(services: &[String], health: &Health) -> Result<Routes, Error> {
    let configure = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(foundry_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Each version lists the other, so it must describe it, too.
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET);
        services
            .iter()
            .map(String::as_str)
            .chain([
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
            ])
            .fold(builder, |builder, name| builder.with_service_name(name))
    };
    Ok(Routes::new(HealthServer::new(HealthService::from_health_reporter(health.reporter.clone())))
        .add_service(configure().build_v1().map_err(Error::internal)?)
        .add_service(configure().build_v1alpha().map_err(Error::internal)?))
}
