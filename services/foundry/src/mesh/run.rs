//! Running: everything in one process, or one service in each.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use foundry_core::Env;
use foundry_provisioner::FurtherProviders;
use foundry_server::{Process, Service, Signals, Telemetry, Upstream, UpstreamBinding};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::config::MeshConfig;
use super::model_keys::ModelKeys;
use super::services::{self, RunningService};
use super::wiring::{Upstreams, Wiring, name};
use crate::cli::ServiceName;
use crate::commands::login;
use crate::failure::Failure;
use crate::output;

/// The order in which services start; each finds those it calls first.
const START_ORDER: [ServiceName; 5] =
    [ServiceName::Auth, ServiceName::Repo, ServiceName::Provisioner, ServiceName::Task, ServiceName::Gateway];
/// Below so many a busy mesh runs out of descriptors.
const FEW_DESCRIPTORS: u64 = 8_192;
/// The order in which services of one process drain.
const DRAIN_ORDER: [&str; 5] = ["gateway", "task", "repo", "provisioner", "auth"];

/// Runs the whole mesh until a signal.
///
/// # Errors
/// What kept it from starting.
pub async fn up(
    config: MeshConfig,
    mesh_dir: PathBuf,
    keys: ModelKeys,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    let (upstreams, bindings) = deferred();
    run(config, (mesh_dir, further), upstreams, &START_ORDER, bindings, keys).await
}

/// Runs one service until a signal; the others are reached over the network.
///
/// # Errors
/// What kept it from starting.
pub async fn serve(
    config: MeshConfig,
    mesh_dir: PathBuf,
    service: ServiceName,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    let remote = |target| Upstream::remote(&config.upstream_url(target));
    let upstreams = Upstreams {
        auth: remote(ServiceName::Auth)?,
        repo: remote(ServiceName::Repo)?,
        provisioner: remote(ServiceName::Provisioner)?,
        task: remote(ServiceName::Task)?,
    };
    run(config, (mesh_dir, further), upstreams, &[service], Vec::new(), ModelKeys::default()).await
}

/// Upstreams of services that are built later in this process.
fn deferred() -> (Upstreams, Vec<(ServiceName, UpstreamBinding)>) {
    let (auth, auth_binding) = Upstream::deferred();
    let (repo, repo_binding) = Upstream::deferred();
    let (provisioner, provisioner_binding) = Upstream::deferred();
    let (task, task_binding) = Upstream::deferred();
    let bindings = vec![
        (ServiceName::Auth, auth_binding),
        (ServiceName::Repo, repo_binding),
        (ServiceName::Provisioner, provisioner_binding),
        (ServiceName::Task, task_binding),
    ];
    (Upstreams { auth, repo, provisioner, task }, bindings)
}

async fn run(
    config: MeshConfig,
    (mesh_dir, further): (PathBuf, FurtherProviders),
    upstreams: Upstreams,
    services: &[ServiceName],
    mut bindings: Vec<(ServiceName, UpstreamBinding)>,
    keys: ModelKeys,
) -> Result<ExitCode, Failure> {
    let env = Env::system();
    let begun = env.clock.now();
    let descriptors = raise_descriptors();
    let label = if services.len() == 1 { name(services[0]) } else { "foundry" };
    let telemetry =
        Telemetry::start(&config.telemetry, label).map_err(|e| Failure::new(e.to_string()).exit(2))?;
    let signals = Signals::of_process()?;
    let metrics = telemetry.metrics().clone();
    let wiring = Wiring { env: env.clone(), metrics, mesh_dir, upstreams, further, model_keys: keys.keys };
    make_private(&wiring.mesh_dir)?;
    match descriptors {
        Ok(Some(most)) if most < FEW_DESCRIPTORS => {
            tracing::warn!(most, "low limit of file descriptors: connections may be refused")
        }
        Ok(most) => tracing::debug!(most, "descriptors of this process"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors could not be raised"),
    }

    let mut process = Process::new(env.clone(), config.drain.clone(), telemetry.metrics().clone());
    process.drain_order(&DRAIN_ORDER);
    // Whose data and whose addresses these are is settled before anything is recovered or started.
    let data = services.iter().map(|s| wiring.data(*s)).collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<_> = services.iter().map(|s| (name(*s), config.servers.of(*s).listen)).collect();
    process.bind(&addresses, &config.admin).await?;
    let mut survivors = None;
    for (service, data) in services.iter().zip(&data) {
        let RunningService { service: built, failures, survivors: living } =
            Box::pin(services::build(*service, data.as_ref(), &config, &wiring)).await?;
        process.supervise(failures);
        survivors = survivors.or(living);
        start(&mut process, built, *service, &config, &wiring, &mut bindings).await?;
    }
    process.start_admin(&config.admin).await?;
    telemetry.metrics().bootstrapped(env.clock.now().since(begun));
    keys.told.iter().for_each(|line| output::line(line));
    announce(&config, &wiring.mesh_dir, services);

    let exit = process.run(signals).await;
    if let Some(survivors) = survivors {
        tell_survivors(&survivors);
    }
    drop(data);
    // Blocks: the exporters wait for their last batch.
    tokio::task::block_in_place(|| telemetry.flush());
    Ok(exit.into())
}

async fn start(
    process: &mut Process,
    built: Service,
    service: ServiceName,
    config: &MeshConfig,
    wiring: &Wiring,
    bindings: &mut Vec<(ServiceName, UpstreamBinding)>,
) -> Result<(), Failure> {
    let mounted = built.mount(config.servers.of(service), &wiring.env, &wiring.metrics).await?;
    if let Some(position) = bindings.iter().position(|(bound, _)| *bound == service) {
        bindings.swap_remove(position).1.bind(mounted.upstream());
    }
    process.start(mounted).await?;
    Ok(())
}

/// Takes as many descriptors as this process may have: every connection of a browser, an agent or a sandbox needs one, and
/// the usual soft limit of 1,024 is for programs that use `select`. Sandboxes get their own. Returns how many.
fn raise_descriptors() -> rustix::io::Result<Option<u64>> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(limit.maximum)
}

/// Keys and databases live below it.
fn make_private(dir: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    Ok(())
}

/// Says on standard output what serves where, once everything does.
fn announce(config: &MeshConfig, mesh_dir: &Path, services: &[ServiceName]) {
    for service in services {
        output::line(&format!("{:<12} {}", name(*service), config.servers.of(*service).listen));
    }
    if services.contains(&ServiceName::Gateway) {
        announce_page(config, mesh_dir);
        let gateway = config.servers.gateway.listen;
        output::line(&format!(
            "ready: sign in with `foundry login`; explore the API with `grpcurl -plaintext {gateway} list`"
        ));
    } else {
        output::line("ready");
    }
    tracing::info!(data_directory = %mesh_dir.display(), "ready");
}

/// Says where the workbench is and how to get in.
fn announce_page(config: &MeshConfig, mesh_dir: &Path) {
    let page = page_address(config.servers.gateway.listen);
    let mut text = format!("workbench    {page}");
    if config.auth.development_sign_in {
        let secret = login::secret_file(mesh_dir);
        text.push_str("  `foundry login --web` prints a sign-in link, using the secret in ");
        text.push_str(&secret.display().to_string());
    }
    output::line(&text);
}

/// Where a browser on this machine finds the page.
fn page_address(listen: SocketAddr) -> String {
    let mut address = listen;
    if listen.ip().is_unspecified() {
        // It takes every address; this one is always there.
        address.set_ip(if listen.is_ipv4() {
            Ipv4Addr::LOCALHOST.into()
        } else {
            Ipv6Addr::LOCALHOST.into()
        });
    }
    format!("http://{address}/")
}

/// Sandboxes outlive the mesh; whoever stops it should know.
fn tell_survivors(survivors: &foundry_provisioner::Survivors) {
    let living = survivors.sandboxes();
    if !living.is_empty() {
        output::line(&format!(
            "{} sandboxes keep running and will be adopted at the next start:",
            living.len()
        ));
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
            assert_eq!(page_address(listen.parse().unwrap()), page);
        }
    }
}
