//! `foundry up`, `foundry serve` and `foundry config`.

use std::path::PathBuf;
use std::process::ExitCode;

use foundry_provisioner::FurtherProviders;
use foundry_server::config::Loaded;

use crate::cli::{DEFAULT_ADDRESS, Global};
use crate::failure::Failure;
use crate::mesh::config::MeshConfig;
use crate::mesh::{self, MeshService, config};
use crate::output;

/// Runs the whole mesh in this process.
///
/// # Errors
/// The reason why it could not start.
pub async fn up(
    global: &Global,
    keys_from_env: bool,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    let keys = mesh::ModelKeys::read(keys_from_env, |name| std::env::var(name).ok())?;
    let loaded = config::load(global)?;
    let gateway = loaded.value.servers.get("gateway").map(|server| server.listen.to_string());
    if let Some(note) = gateway.and_then(|listen| elsewhere(&global.address, &listen)) {
        eprintln!("{}", output::inert(&note));
    }
    Box::pin(mesh::up(loaded.value, config::data_dir(global)?, keys, further)).await
}

/// That commands with this address would not reach the mesh, which listens by its configuration alone.
fn elsewhere(address: &str, listen: &str) -> Option<String> {
    let port = |text: &str| text.trim_end_matches('/').rsplit_once(':').map(|(_, port)| port.to_owned());
    // Another host may be a proxy in front of this mesh.
    let is_here =
        ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|h| address.starts_with(h));
    let differs = address != DEFAULT_ADDRESS && is_here && port(address) != port(listen);
    differs.then(|| {
        format!(
            "this mesh listens on {listen}, not at {address}: --address (FOUNDRY_ADDRESS) is where commands look for a mesh; \
             to listen elsewhere: --set servers.gateway.listen=HOST:PORT"
        )
    })
}

/// Runs one service in this process.
///
/// # Errors
/// The reason why it could not start.
pub async fn serve(
    global: &Global,
    service: MeshService,
    further: FurtherProviders,
) -> Result<ExitCode, Failure> {
    Box::pin(mesh::serve(config::load(global)?.value, config::data_dir(global)?, service, further)).await
}

/// Prints the effective configuration with the origin of each value, secrets masked.
///
/// # Errors
/// When the configuration is invalid.
pub fn print_config(global: &Global) -> Result<ExitCode, Failure> {
    let mut loaded = config::load(global)?;
    in_effect(&mut loaded);
    let text = foundry_server::config::effective(&loaded).map_err(|e| Failure::new(e.to_string()))?;
    output::line(&format!("# data directory: {}", config::data_dir(global)?.display()));
    output::part(&text);
    Ok(ExitCode::SUCCESS)
}

/// A provider turns the development sign-in off, whatever is set.
fn in_effect(loaded: &mut Loaded<MeshConfig>) {
    let auth = &mut loaded.value.auth;
    if auth.development_sign_in && !auth.has_development_sign_in() {
        auth.development_sign_in = false;
        loaded
            .origins
            .insert("auth.development_sign_in".to_owned(), "auth.sign_in, which turns it off".to_owned());
    }
}

/// The configuration of the mesh, as `foundry up` would read it here.
///
/// # Errors
/// When it is invalid.
pub fn config(global: &Global) -> Result<MeshConfig, Failure> {
    Ok(config::load(global)?.value)
}

/// The data directory of the mesh.
///
/// # Errors
/// As [`config::data_dir`].
pub fn data_dir(global: &Global) -> Result<PathBuf, Failure> {
    config::data_dir(global)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_at_which_the_mesh_does_not_listen_is_said_to_have_no_effect() {
        let listen = "127.0.0.1:7100";
        assert_eq!(elsewhere(DEFAULT_ADDRESS, "127.0.0.1:0"), None, "nobody has given one");
        assert_eq!(elsewhere("http://localhost:7100/", listen), None);
        let said = elsewhere("http://127.0.0.1:9000", listen).unwrap();
        assert!(said.contains(listen) && said.contains("--set servers.gateway.listen="), "{said}");
    }

    #[test]
    fn beside_a_provider_the_development_sign_in_is_printed_as_off() {
        let mut loaded = Loaded { value: MeshConfig::default(), origins: Default::default() };
        in_effect(&mut loaded);
        assert!(loaded.value.auth.development_sign_in && loaded.origins.is_empty());
        loaded.value.auth.sign_in.insert("github".to_owned(), Default::default());
        in_effect(&mut loaded);
        let text = foundry_server::config::effective(&loaded).unwrap();
        assert!(
            text.contains("development_sign_in = false  # from auth.sign_in, which turns it off"),
            "{text}"
        );
    }
}
