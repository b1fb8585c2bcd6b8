//! Health and reflection: what every server answers without a token.

use foundry_core::Error;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Health of one server: overall and by service name.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    services: Vec<String>,
}

impl Health {
    /// Not serving yet.
    pub(crate) async fn starting(services: &[String]) -> Self {
        let health = Self { reporter: HealthReporter::new(), services: services.to_vec() };
        health.set(false).await;
        health
    }

    /// Sets the overall status and that of each service.
    pub(crate) async fn set(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in self.services.iter().map(String::as_str).chain([""]) {
            self.reporter.set_service_status(name, status).await;
        }
    }
}

/// The open routes: health, and reflection in the two versions that clients in the field speak.
///
/// Reflection lists the given services only; it describes any type of the protos.
pub(crate) fn open_routes(services: &[String], health: &Health) -> Result<Routes, Error> {
    let configure = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(foundry_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Each version lists the other: it must describe it too.
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
