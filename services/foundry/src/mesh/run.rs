//! Runs all services in one process, or one service.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use foundry_core::Env;
use foundry_provisioner::FurtherProviders;
use foundry_server::config::TlsFiles;
use foundry_server::{Certificates, Process, Service, Signals, Telemetry, Upstream, UpstreamBinding};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::config::MeshConfig;
use super::directory;
use super::model_keys::ModelKeys;
use super::services::{MeshService, RunningService, ServiceInputs, called, drain_order, in_start_order};
use super::wiring::{Upstreams, Wiring};
use crate::commands::login;
use crate::failure::Failure;
use crate::output;

/// Below so many a busy mesh runs out of descriptors.
const FEW_DESCRIPTORS: u64 = 8_192;

/// Binds the upstreams of the services of this process, by name, when these are built.
type Bindings = BTreeMap<&'static str, UpstreamBinding>;

/// Runs the whole mesh until a signal.
///
/// # Errors
/// The reason why it could not start.
pub async fn up(
    config: MeshConfig,
    mesh_dir: PathBuf,
    keys: ModelKeys,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    if config.mesh.is_proven() {
        return Err(Failure::new("`mesh.tls` is set, and all services of `foundry up` are in one process")
            .next("remove it, or run each service with `foundry serve`")
            .exit(2));
    }
    let (upstreams, bindings) = deferred();
    run(config, (mesh_dir, further), (upstreams, None), &in_start_order(), bindings, keys).await
}

/// Runs one service until a signal; the others are reached over the network.
///
/// # Errors
/// The reason why it could not start.
pub async fn serve(
    config: MeshConfig,
    mesh_dir: PathBuf,
    service: MeshService,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    let files = config.mesh.files_of(service.name);
    let certificates = Certificates::of_service(&files, "mesh.tls", service.name).await?;
    let mut upstreams = Upstreams::new();
    for other in called() {
        let url = config.upstream_url(other);
        let upstream = match &certificates {
            Some(certificates) => Upstream::proven(&url, other.name, certificates)?,
            None => Upstream::remote(&url)?,
        };
        upstreams.insert(other.name, upstream);
    }
    let upstreams = (upstreams, certificates);
    run(config, (mesh_dir, further), upstreams, &[service], Bindings::new(), ModelKeys::default()).await
}

/// Upstreams of services that are built later in this process.
fn deferred() -> (Upstreams, Bindings) {
    let (mut upstreams, mut bindings) = (Upstreams::new(), Bindings::new());
    for service in called() {
        let (upstream, binding) = Upstream::deferred();
        upstreams.insert(service.name, upstream);
        bindings.insert(service.name, binding);
    }
    (upstreams, bindings)
}

async fn run(
    config: MeshConfig,
    (mesh_dir, further): (PathBuf, FurtherProviders),
    (upstreams, certificates): (Upstreams, Option<Certificates>),
    services: &[MeshService],
    mut bindings: Bindings,
    keys: ModelKeys,
) -> Result<ExitCode, Failure> {
    let env = Env::system();
    let begun = env.clock.now();
    let descriptors = raise_descriptors();
    let label = if let [service] = services { service.name } else { "foundry" };
    let telemetry =
        Telemetry::start(&config.telemetry, label).map_err(|e| Failure::new(e.to_string()).exit(2))?;
    let signals = Signals::of_process()?;
    let metrics = telemetry.metrics().clone();
    let wiring = Wiring { env: env.clone(), metrics, mesh_dir, upstreams, further, model_keys: keys.keys };
    let made = directory::make_private(&wiring.mesh_dir)?;
    match descriptors {
        Ok(Some(most)) if most < FEW_DESCRIPTORS => {
            tracing::warn!(most, "low file descriptor limit: connections may be refused")
        }
        Ok(most) => tracing::debug!(most, "descriptors of this process"),
        Err(error) => tracing::warn!(%error, "the file descriptor limit could not be raised"),
    }

    let mut process = Process::new(env.clone(), config.drain.clone(), telemetry.metrics().clone());
    process.drain_order(&drain_order());
    // Whose data and whose addresses these are is settled before anything is recovered or started.
    let mut data = Vec::with_capacity(services.len());
    for service in services {
        data.push(wiring.data(service).await?);
    }
    let addresses: Vec<_> = services.iter().map(|s| (s.name, config.server(s).listen)).collect();
    if let Err(e) = process.bind(&addresses, &config.admin).await {
        made.undo(data);
        return Err(e.into());
    }
    let mut survivors = None;
    for (service, data) in services.iter().zip(&data) {
        let inputs =
            ServiceInputs { name: service.name, data: data.as_ref(), config: &config, wiring: &wiring };
        let RunningService { service: built, failures, survivors: living } = (service.build)(inputs).await?;
        process.supervise(failures);
        survivors = survivors.or(living);
        let built = match &certificates {
            Some(certificates) if service.name == "gateway" => {
                // Its own listener is for clients, who have no certificate.
                process.keep_certificates("mesh", certificates.clone());
                built
            }
            certificates => built.over_tls(certificates.clone()),
        };
        start(&mut process, built, service, &config, &wiring, &mut bindings).await?;
    }
    process.start_admin(&config.admin).await?;
    telemetry.metrics().bootstrapped(env.clock.now().since(begun));
    keys.line.iter().for_each(|line| output::line(line));
    announce(&config, &wiring.mesh_dir, services);

    let exit = process.run(signals).await;
    if let Some(survivors) = survivors {
        print_survivors(&survivors);
    }
    drop(data);
    // Blocks until the exporters have sent their last batch.
    tokio::task::block_in_place(|| telemetry.flush());
    Ok(exit.into())
}

async fn start(
    process: &mut Process,
    built: Service,
    service: &MeshService,
    config: &MeshConfig,
    wiring: &Wiring,
    bindings: &mut Bindings,
) -> Result<(), Failure> {
    let mounted = built.mount(&config.server(service), &wiring.env, &wiring.metrics).await?;
    if let Some(binding) = bindings.remove(service.name) {
        binding.bind(mounted.upstream());
    }
    process.start(mounted).await?;
    Ok(())
}

/// Raises the limit of file descriptors to its maximum: each connection of a browser, agent or sandbox needs one, and
/// the usual soft limit of 1,024 is for programs that use `select`. Sandboxes have their own limits. Returns the limit.
fn raise_descriptors() -> rustix::io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum)
}

/// Says on standard output what serves where, once everything does.
fn announce(config: &MeshConfig, mesh_dir: &Path, services: &[MeshService]) {
    for service in services {
        output::line(&format!("{:<12} {}", service.name, config.server(service).listen));
    }
    if let Some(gateway) = services.iter().find(|service| service.name == "gateway") {
        let gateway = config.server(gateway).listen;
        announce_page(config, mesh_dir, gateway);
        let way = way_in(config);
        let plain = if is_https(config) { "" } else { "-plaintext " };
        output::line(&format!("ready: {way}; explore the API with `grpcurl {plain}{gateway} list`"));
    } else {
        output::line("ready");
    }
    tracing::info!(data_directory = %mesh_dir.display(), "ready");
}

/// How people sign in to this mesh.
fn way_in(config: &MeshConfig) -> String {
    if config.auth.sign_in.is_empty() {
        return "sign in with `foundry login`".to_owned();
    }
    let names: Vec<&str> = config.auth.sign_in.keys().map(String::as_str).collect();
    let (public, names) = (&config.gateway.public_url, names.join(", "));
    format!("sign in at {public} with {names}, and `foundry` with `foundry login`")
}

/// Says where the workbench is and how to get in.
fn announce_page(config: &MeshConfig, mesh_dir: &Path, gateway: SocketAddr) {
    let page = page_address(gateway, is_https(config));
    let mut text = format!("workbench    {page}");
    if config.auth.has_development_sign_in() {
        let secret = login::secret_file(mesh_dir);
        text.push_str("  `foundry login --web` prints a sign-in link, using the secret in ");
        text.push_str(&secret.display().to_string());
    } else if let Some(secret) = login::set_up_file(mesh_dir) {
        text.push_str("  the first owner signs in with the set-up secret in ");
        text.push_str(&secret.display().to_string());
    }
    output::line(&text);
}

/// Whether the gateway itself serves https.
fn is_https(config: &MeshConfig) -> bool {
    config.gateway.tls != TlsFiles::default()
}

/// The page's address for a browser on this machine.
fn page_address(listen: SocketAddr, is_https: bool) -> String {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        // The wildcard address is not one to connect to; loopback always is.
        address.set_ip(if listen.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    let scheme = if is_https { "https" } else { "http" };
    format!("{scheme}://{address}/")
}

/// Reports the sandboxes that keep running after the mesh has stopped.
fn print_survivors(survivors: &foundry_provisioner::Survivors) {
    let living = survivors.sandboxes();
    if !living.is_empty() {
        let keep = match living.len() {
            1 => "1 sandbox keeps".to_owned(),
            several => format!("{several} sandboxes keep"),
        };
        output::line(&format!("{keep} running and will be adopted at the next start:"));
        living.iter().for_each(|id| output::line(&format!("  {id}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_told_by_an_address_that_a_browser_can_open() {
        for (listen, page) in [
            ("127.0.0.1:7100", "http://127.0.0.1:7100/"),
            ("0.0.0.0:80", "http://127.0.0.1:80/"),
            ("[::]:7100", "http://[::1]:7100/"),
        ] {
            assert_eq!(page_address(listen.parse().unwrap(), false), page);
        }
        assert_eq!(page_address("127.0.0.1:443".parse().unwrap(), true), "https://127.0.0.1:443/");
    }
}
