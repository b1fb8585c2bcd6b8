//! The databases of the mesh's services, for commands that read them without the services.

use std::collections::BTreeSet;
use std::path::Path;

use foundry_store::{Encoded, Reference, Unreadable};

use super::config::MeshConfig;

/// The database of one service.
pub struct ServiceDatabase {
    /// The service's name.
    pub service: &'static str,
    /// Where it is: `sqlite:<path>` or `postgres://…`.
    pub url: String,
    /// Its columns with encoded values.
    pub columns: Vec<Encoded>,
    /// Which of its rows name others of it.
    pub references: &'static [Reference],
}

/// Rows of one service that say which rows another has.
pub struct Across {
    /// The service that must have the rows, and their table.
    missing: (&'static str, &'static str),
    /// Lists the rows that are there.
    there: &'static str,
    /// The service that names them, and how.
    named: (&'static str, &'static str),
    /// Lists the rows that must be there.
    wanted: &'static str,
    /// How the copies in the task service follow the rows; none for others.
    follows: Option<Follows>,
}

/// Rows that a consumer copies: it lags behind those that are newer than its position.
struct Follows {
    /// The consumer's stream; the organization's id follows in `consumer_positions`.
    stream: &'static str,
    /// Lists the rows as `organization revision id`.
    revisions: &'static str,
}

/// Lists the consumer's positions as `stream revision`.
const POSITIONS: &str = "SELECT stream || ' ' || CAST(rev AS TEXT) AS id FROM consumer_positions";

/// What the services know of each other's rows. A copy of a work outlives its repository, whose removal takes the work.
static ACROSS: [Across; 9] = [
    Across {
        missing: ("provisioner", "sandboxes"),
        there: "SELECT sandbox_id AS id FROM sandboxes",
        named: ("task", "the task service has a copy of it"),
        wanted: "SELECT sandbox_id AS id FROM sandboxes",
        follows: None,
    },
    Across {
        missing: ("provisioner", "agent_sessions"),
        there: "SELECT session_id AS id FROM agent_sessions",
        named: ("task", "the task service has a copy of it"),
        wanted: "SELECT session_id AS id FROM agent_sessions",
        follows: None,
    },
    Across {
        missing: ("repo", "works"),
        // What was deleted is not missing: the copy may lag.
        there: "SELECT task_id AS id FROM works UNION SELECT key FROM store_tombstones WHERE kind = 'work'",
        named: ("task", "the task service has a copy of it"),
        wanted: "SELECT w.task_id AS id FROM works w JOIN tasks t ON t.task_id = w.task_id \
                 JOIN repositories r ON r.repository_id = t.repository_id \
                 WHERE r.upstream_rev < 9223372036854775807",
        follows: None,
    },
    Across {
        missing: ("repo", "repositories"),
        there: "SELECT repository_id AS id FROM repositories \
                UNION SELECT key FROM store_tombstones WHERE kind = 'repository'",
        named: ("task", "the task service has a copy of it"),
        wanted: "SELECT repository_id AS id FROM repositories WHERE upstream_rev < 9223372036854775807",
        follows: None,
    },
    Across {
        missing: ("task", "tasks"),
        there: "SELECT task_id AS id FROM tasks",
        named: ("provisioner", "the provisioner has a sandbox of it"),
        wanted: "SELECT DISTINCT task_id AS id FROM sandboxes",
        follows: None,
    },
    Across {
        missing: ("task", "sessions"),
        there: "SELECT session_id AS id FROM sessions",
        named: ("provisioner", "the provisioner has its agent's side"),
        wanted: "SELECT session_id AS id FROM agent_sessions",
        follows: None,
    },
    Across {
        missing: ("task", "sandboxes"),
        there: "SELECT sandbox_id AS id FROM sandboxes",
        named: ("provisioner", "the provisioner has this sandbox"),
        wanted: "SELECT sandbox_id AS id FROM sandboxes WHERE living = 1",
        follows: Some(Follows {
            stream: "sandboxes",
            revisions: "SELECT organization_id || ' ' || CAST(rev AS TEXT) || ' ' || sandbox_id AS id FROM sandboxes",
        }),
    },
    Across {
        missing: ("task", "agent_sessions"),
        there: "SELECT session_id AS id FROM agent_sessions",
        named: ("provisioner", "the provisioner has this agent session"),
        wanted: "SELECT session_id AS id FROM agent_sessions",
        follows: Some(Follows {
            stream: "sandboxes",
            revisions: "SELECT organization_id || ' ' || CAST(rev AS TEXT) || ' ' || session_id AS id FROM agent_sessions",
        }),
    },
    Across {
        missing: ("task", "works"),
        there: "SELECT task_id AS id FROM works",
        named: ("repo", "the repo service has this work"),
        wanted: "SELECT task_id AS id FROM works",
        follows: Some(Follows {
            stream: "repositories",
            revisions: "SELECT organization_id || ' ' || CAST(rev AS TEXT) || ' ' || task_id AS id FROM works",
        }),
    },
];

/// The rows that a service must have because another names them, with the service that misses them.
///
/// # Errors
/// When a database cannot be opened or read.
pub async fn missing_across(
    databases: &[ServiceDatabase],
) -> foundry_core::Result<Vec<(&'static str, Unreadable)>> {
    let mut found = Vec::new();
    let url = |service: &str| databases.iter().find(|d| d.service == service).map(|d| d.url.as_str());
    for Across { missing: (service, table), there, named: (by, how), wanted, follows } in &ACROSS {
        let (Some(ours), Some(theirs)) = (url(service), url(by)) else { continue };
        let wanted = foundry_store::ids(theirs, wanted).await?;
        // Before the rows: what a consumer applies in between is then both behind and there.
        let positions = match follows {
            Some(_) => foundry_store::ids(ours, POSITIONS).await?,
            None => BTreeSet::new(),
        };
        let there = foundry_store::ids(ours, there).await?;
        let mut missing: Vec<_> = wanted.difference(&there).collect();
        if let Some(follows) = follows.as_ref().filter(|_| !missing.is_empty()) {
            let revisions = foundry_store::ids(theirs, follows.revisions).await?;
            let behind = behind(follows.stream, &positions, &revisions);
            missing.retain(|id| !behind.contains(id.as_str()));
        }
        found.extend(missing.into_iter().map(|id| (*service, Unreadable::missing(table, id.clone(), how))));
    }
    Ok(found)
}

/// The ids of the rows whose newest revision a consumer has not read yet.
fn behind<'a>(
    stream: &str,
    positions: &BTreeSet<String>,
    revisions: &'a BTreeSet<String>,
) -> BTreeSet<&'a str> {
    let position = |organization: &str| {
        let of_stream = format!("{stream}/{organization} ");
        positions.iter().find_map(|p| p.strip_prefix(&of_stream)?.parse::<i64>().ok()).unwrap_or_default()
    };
    let row = |row: &'a String| {
        let mut words = row.splitn(3, ' ');
        let (organization, revision) = (words.next()?, words.next()?.parse::<i64>().ok()?);
        (revision > position(organization)).then(|| words.next())?
    };
    revisions.iter().filter_map(row).collect()
}

/// The ids in the table of another service that a table of the task service has copies from; none for other tables.
///
/// # Errors
/// When a database cannot be opened or read.
pub async fn sources(
    databases: &[ServiceDatabase],
    table: &str,
) -> foundry_core::Result<Option<BTreeSet<String>>> {
    let source = ACROSS.iter().find(|a| a.missing.0 != "task" && a.missing.1 == table);
    let Some(Across { missing: (service, _), there, .. }) = source else { return Ok(None) };
    let Some(database) = databases.iter().find(|d| d.service == *service) else { return Ok(None) };
    foundry_store::ids(&database.url, there).await.map(Some)
}

/// The databases of all services that have one, wherever the configuration has put them.
pub fn all(config: &MeshConfig, mesh_dir: &Path) -> Vec<ServiceDatabase> {
    let flows = &foundry_flow::ENCODED;
    let database = |service: &'static str,
                    configured: &str,
                    columns: &[&[Encoded]],
                    references: &'static [Reference]| {
        let own = || format!("sqlite:{}", mesh_dir.join(service).join(format!("{service}.db")).display());
        let url = if configured.is_empty() { own() } else { configured.to_owned() };
        ServiceDatabase { service, url, columns: columns.concat(), references }
    };
    vec![
        database(
            foundry_auth::NAME,
            &config.auth.store_url,
            &[&foundry_auth::ENCODED, flows],
            &foundry_auth::REFERENCES,
        ),
        database("repo", &config.repo.store_url, &[&foundry_repo::ENCODED, flows], &foundry_repo::REFERENCES),
        database(
            "provisioner",
            &config.provisioner.store_url,
            &[&foundry_provisioner::ENCODED, flows],
            &foundry_provisioner::REFERENCES,
        ),
        database("task", &config.task.store_url, &[&foundry_task::ENCODED, flows], &foundry_task::REFERENCES),
    ]
}

#[cfg(test)]
mod tests {
    use foundry_store::{DialectSql, Store, StoreOptions};

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

    /// A database with these tables.
    async fn with(dir: &Path, service: &'static str, tables: &'static str) -> ServiceDatabase {
        let url = format!("sqlite:{}", dir.join(format!("{service}.db")).display());
        let options = StoreOptions::default();
        let store = Store::connect(&url, &[], &foundry_core::Env::system(), options).await.unwrap();
        for sql in tables.split(';') {
            store.write(DialectSql { sqlite: sql, postgres: sql }, &[]).await.unwrap();
        }
        store.close().await;
        ServiceDatabase { service, url, columns: vec![], references: &[] }
    }

    #[tokio::test]
    async fn rows_that_one_service_has_of_another_are_missed_there() {
        let dir = tempfile::tempdir().unwrap();
        let repo = "CREATE TABLE repositories AS SELECT 'r1' AS repository_id; \
             CREATE TABLE works AS SELECT 't2' AS task_id; \
             INSERT INTO store_tombstones VALUES ('o', 'repository', 'r7', 5, 0), ('o', 'work', 't7', 5, 0)";
        let provisioner = "CREATE TABLE sandboxes AS SELECT 'b1' AS sandbox_id, 't1' AS task_id, 1 AS living, \
                 'org_1' AS organization_id, 7 AS rev \
             UNION SELECT 'b0', 't1', 0, 'org_1', 1 UNION SELECT 'b2', 't2', 1, 'org_1', 8 \
             UNION SELECT 'b3', 't2', 1, 'org_2', 1; \
             CREATE TABLE agent_sessions AS SELECT 's1' AS session_id";
        let task = "CREATE TABLE tasks AS SELECT 't2' AS task_id, 'gone' AS repository_id; \
             CREATE TABLE sessions AS SELECT 's1' AS session_id; \
             CREATE TABLE sandboxes AS SELECT 'b9' AS sandbox_id, 't2' AS task_id; \
             CREATE TABLE agent_sessions AS SELECT 's1' AS session_id; \
             CREATE TABLE repositories AS SELECT 'gone' AS repository_id, 9223372036854775807 AS upstream_rev \
             UNION SELECT 'r7', 3; \
             CREATE TABLE works AS SELECT 't2' AS task_id; \
             CREATE TABLE consumer_positions AS SELECT 'sandboxes/org_1' AS stream, 7 AS rev";
        let databases = [
            with(dir.path(), "repo", repo).await,
            with(dir.path(), "provisioner", provisioner).await,
            with(dir.path(), "task", task).await,
        ];
        let missing = missing_across(&databases).await.unwrap();
        let named: Vec<_> = missing.iter().map(|(s, row)| (*s, row.table, row.key.as_str())).collect();
        // The sandbox b2, and all of the other organization, are newer than what the task service has read.
        let expected =
            [("provisioner", "sandboxes", "b9"), ("task", "tasks", "t1"), ("task", "sandboxes", "b1")];
        assert_eq!(named, expected);
        let there = sources(&databases, "sandboxes").await.unwrap().unwrap();
        assert!(there.contains("b1") && !there.contains("b9"));
        assert_eq!(sources(&databases, "tasks").await.unwrap(), None);
    }
}
