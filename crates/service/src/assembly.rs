//! What is the same in how every service is put together.

use std::sync::Arc;
use std::time::Duration;

use foundry_authn::{Authenticator, AuthnLayer};
use foundry_core::{Env, Tasks};
use foundry_proto::watch::v1::watch_authorization_service_server::{
    SERVICE_NAME as WATCH_AUTHORIZATION, WatchAuthorizationService, WatchAuthorizationServiceServer,
};
use foundry_server::Service;
use foundry_store::Store;
use foundry_watch_hub::Hub;
use tonic::service::Routes;

use crate::database::counts;
use crate::phases::phases;
use crate::storage::report_storage;

/// A service of these gRPC services (full names), and of the authorization of its watches, behind authentication.
pub fn served(
    name: &'static str,
    grpc_services: &[&'static str],
    routes: Routes,
    watches: impl WatchAuthorizationService,
    authenticator: Arc<Authenticator>,
) -> Service {
    let names = grpc_services.iter().copied().chain([WATCH_AUTHORIZATION]);
    let routes = routes.add_service(WatchAuthorizationServiceServer::new(watches));
    Service::new(name, names, routes).authenticated_by(AuthnLayer::new(authenticator))
}

/// The service with what its database brings: health that follows the disk, counters, the phases of its stop, and
/// background tasks. `finish` gets the time limit for jobs and returns the ids of those that were cut off.
pub fn on_database<F, Fut>(
    service: Service,
    store: &Store,
    hub: &Hub,
    env: &Env,
    tasks: Tasks,
    finish: F,
) -> Service
where
    F: FnOnce(Duration) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<String>> + Send + 'static,
{
    report_storage(store, &service, env, &tasks);
    service.counts(counts(store)).phases(phases(hub.clone(), store.clone(), finish)).background(tasks)
}
