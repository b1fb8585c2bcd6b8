//! `foundry verify`: names every stored value that cannot be decoded, and every row that others name and that is gone.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use foundry_store::Unreadable;

use crate::cli::{Global, Output};
use crate::failure::Failure;
use crate::mesh::config;
use crate::mesh::databases::{self, ServiceDatabase};
use crate::output;

/// How long a row of a running mesh may be named before or after it is there.
const IN_FLIGHT: Duration = Duration::from_secs(2);

/// Lists the damaged and missing rows of all databases by service, table and key.
///
/// # Errors
/// When the configuration is invalid, or a database cannot be opened.
pub async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let databases = databases::all(&config::load(global)?.value, &config::data_dir(global)?);
    let found = all_damaged(&databases).await?;
    let services: Vec<_> = databases.iter().map(|d| d.service).collect();
    match global.output {
        Output::Json if found.is_empty() => output::line(&nothing(&services)),
        Output::Json => found.iter().for_each(|(service, row)| output::line(&json(service, row))),
        Output::Table if found.is_empty() => {
            output::line(&format!("all stored data can be read ({})", services.join(", ")));
        }
        Output::Table => {
            let rows = found.iter().map(|(service, row)| cells(service, row)).collect();
            output::table(&["service", "table", "id", "column", "cause"], rows);
        }
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The damaged and the missing rows of all databases, each with its service.
///
/// # Errors
/// When a database cannot be opened or read.
pub async fn all_damaged(databases: &[ServiceDatabase]) -> Result<Vec<(&'static str, Unreadable)>, Failure> {
    let mut found = Vec::new();
    for database in databases {
        found.extend(damaged(database).await?.into_iter().map(|row| (database.service, row)));
    }
    let mut absent = missing(databases).await?;
    if !absent.is_empty() {
        // The services of a running mesh write one after the other.
        tokio::time::sleep(IN_FLIGHT).await;
        let still = missing(databases).await?;
        // What is wrong may have changed its number, and is the same all the same.
        let same = |a: &Unreadable, b: &Unreadable| (a.table, &a.key) == (b.table, &b.key);
        absent.retain(|(service, row)| still.iter().any(|(s, other)| s == service && same(row, other)));
    }
    found.extend(absent);
    Ok(found)
}

/// The rows that others name and that are not there, each once.
async fn missing(databases: &[ServiceDatabase]) -> Result<Vec<(&'static str, Unreadable)>, Failure> {
    let mut found = Vec::new();
    for database in databases {
        let missing = foundry_store::missing(&database.url, database.references).await;
        found.extend(missing.map_err(|e| unopened(database, &e))?.into_iter().map(|r| (database.service, r)));
    }
    found.extend(databases::missing_across(databases).await.map_err(|e| {
        Failure::new(format!("the services' databases cannot be compared: {}", cause(&e)))
            .next("start the mesh once, which brings all of them to its version")
    })?);
    let mut named = HashSet::new();
    found.retain(|(service, row)| named.insert((*service, row.table, row.key.clone())));
    Ok(found)
}

/// The rows of a database that cannot be decoded.
///
/// # Errors
/// When it cannot be opened.
async fn damaged(database: &ServiceDatabase) -> Result<Vec<Unreadable>, Failure> {
    foundry_store::verify(&database.url, &database.columns).await.map_err(|e| unopened(database, &e))
}

fn unopened(database: &ServiceDatabase, e: &foundry_core::Error) -> Failure {
    let (file, cause) = (file(&database.url), cause(e));
    Failure::new(format!("the database of {}{file} cannot be opened: {cause}", database.service))
        .next("check --data-dir and the store_url of the service; a mesh that has never run has no databases")
}

/// The cause of an error of a database in its own words.
pub fn cause(e: &foundry_core::Error) -> String {
    std::error::Error::source(e).map_or_else(|| e.to_string(), ToString::to_string)
}

/// Where the file of a database is, in brackets. Nothing for another URL: it may contain a password.
fn file(url: &str) -> String {
    url.strip_prefix("sqlite:").map_or_else(String::new, |path| format!(" ({path})"))
}

/// The one object for a program when no row is damaged.
fn nothing(services: &[&str]) -> String {
    serde_json::json!({ "services": services, "damaged": 0 }).to_string()
}

fn cells(service: &str, row: &Unreadable) -> Vec<String> {
    [service, row.table, &row.key, row.column, &row.cause].map(str::to_owned).into()
}

fn json(service: &str, row: &Unreadable) -> String {
    serde_json::json!({
        "service": service, "table": row.table, "id": row.key, "column": row.column, "cause": row.cause,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;
    use foundry_proto::common::v1::Notice;
    use foundry_store::{DialectSql, Encoded, Migration, Migrations, Store, StoreOptions, Table};

    use super::*;

    const DDL: &str = "CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY, body BLOB NOT NULL)";
    const MIGRATIONS: Migrations = Migrations {
        owner: "notes",
        steps: &[Migration { version: 1, name: "notes", sqlite: DDL, postgres: DDL }],
    };
    static NOTES: Table = Table::new("notes", &["id", "body"], &["id"]);

    #[tokio::test]
    async fn a_damaged_row_is_listed_by_service_table_and_id() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("x.db").display());
        let store =
            Store::connect(&url, &[&MIGRATIONS], &Env::system(), StoreOptions::default()).await.unwrap();
        const SQL: &str = "INSERT INTO notes VALUES ('good', x'120161'), ('bad', x'124161')";
        store.write(DialectSql { sqlite: SQL, postgres: SQL }, &[]).await.unwrap();
        store.close().await;
        let columns = vec![Encoded::message::<Notice>(&NOTES, "body")];
        let database = ServiceDatabase { service: "notes", url, columns, references: &[] };
        let found = damaged(&database).await.unwrap();
        let shown: Vec<_> = found.iter().map(|row| cells("notes", row)[..4].join(" ")).collect();
        assert_eq!(shown, ["notes notes bad body"]);
        assert!(json("notes", &found[0]).contains(r#""id":"bad""#));
    }

    #[tokio::test]
    async fn a_database_that_is_not_there_is_a_failure_that_names_its_file_and_shows_no_other_url() {
        let url = "sqlite:/nowhere/task.db".to_owned();
        let failure = damaged(&ServiceDatabase { service: "task", url, columns: vec![], references: &[] })
            .await
            .unwrap_err();
        assert_eq!(failure.code, 1);
        assert!(failure.message.starts_with("the database of task (/nowhere/task.db) cannot"), "{failure:?}");
        assert_eq!(file("postgres://me:secret@host/task"), "");
    }

    #[test]
    fn a_program_is_given_an_object_when_nothing_is_damaged() {
        let value: serde_json::Value = serde_json::from_str(&nothing(&["auth", "task"])).unwrap();
        assert_eq!(value, serde_json::json!({ "services": ["auth", "task"], "damaged": 0 }));
    }
}
