//! The databases of the mesh's services, for commands that read them without the services.

use std::path::Path;

use foundry_store::Encoded;

use super::config::MeshConfig;

/// The database of one service.
pub struct ServiceDatabase {
    /// The service's name.
    pub service: &'static str,
    /// Where it is: `sqlite:<path>` or `postgres://…`.
    pub url: String,
    /// Its columns with encoded values.
    pub columns: Vec<Encoded>,
}

/// The databases of all services that have one, wherever the configuration has put them.
pub fn all(config: &MeshConfig, mesh_dir: &Path) -> Vec<ServiceDatabase> {
    let flows = &foundry_flow::ENCODED;
    let database = |service: &'static str, configured: &str, columns: &[&[Encoded]]| {
        let own = || format!("sqlite:{}", mesh_dir.join(service).join(format!("{service}.db")).display());
        let url = if configured.is_empty() { own() } else { configured.to_owned() };
        ServiceDatabase { service, url, columns: columns.concat() }
    };
    vec![
        database(foundry_auth::NAME, &config.auth.store_url, &[]),
        database("repo", &config.repo.store_url, &[&foundry_repo::ENCODED, flows]),
        database("provisioner", &config.provisioner.store_url, &[&foundry_provisioner::ENCODED, flows]),
        database("task", &config.task.store_url, &[&foundry_task::ENCODED, flows]),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mesh::MeshService;
    use clap::ValueEnum as _;

    #[test]
    fn every_service_with_data_has_its_database_here_where_the_configuration_puts_it() {
        let mut config = MeshConfig::default();
        config.task.store_url = "postgres://host/task".into();
        let found = all(&config, Path::new("/data"));
        let names: BTreeSet<_> = found.iter().map(|d| d.service).collect();
        let with_data = MeshService::value_variants().iter().filter(|s| s.has_data).map(|s| s.name).collect();
        assert_eq!(names, with_data);
        let urls: Vec<_> = found.iter().map(|d| d.url.as_str()).collect();
        assert_eq!(urls[1], "sqlite:/data/repo/repo.db");
        assert_eq!(urls[3], "postgres://host/task");
    }
}
