//! `foundry verify`: names every stored value that cannot be decoded.

use std::process::ExitCode;

use foundry_store::Unreadable;

use crate::cli::{Global, Output};
use crate::failure::Failure;
use crate::mesh::config;
use crate::mesh::databases::{self, ServiceDatabase};
use crate::output;

/// Lists the damaged rows of all databases by service, table and key.
///
/// # Errors
/// When the configuration is invalid, or a database cannot be opened.
pub async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let databases = databases::all(&config::load(global)?.value, &config::data_dir(global)?);
    let mut found = Vec::new();
    for database in &databases {
        found.extend(damaged(database).await?.into_iter().map(|row| (database.service, row)));
    }
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

/// The rows of a database that cannot be decoded.
///
/// # Errors
/// When it cannot be opened.
pub async fn damaged(database: &ServiceDatabase) -> Result<Vec<Unreadable>, Failure> {
    foundry_store::verify(&database.url, &database.columns).await.map_err(|e| {
        let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        let file = file(&database.url);
        Failure::new(format!("the database of {}{file} cannot be opened: {cause}", database.service)).next(
            "check --data-dir and the store_url of the service; a mesh that has never run has no databases",
        )
    })
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
        let database = ServiceDatabase { service: "notes", url, columns };
        let found = damaged(&database).await.unwrap();
        let shown: Vec<_> = found.iter().map(|row| cells("notes", row)[..4].join(" ")).collect();
        assert_eq!(shown, ["notes notes bad body"]);
        assert!(json("notes", &found[0]).contains(r#""id":"bad""#));
    }

    #[tokio::test]
    async fn a_database_that_is_not_there_is_a_failure_that_names_its_file_and_shows_no_other_url() {
        let url = "sqlite:/nowhere/task.db".to_owned();
        let failure = damaged(&ServiceDatabase { service: "task", url, columns: vec![] }).await.unwrap_err();
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
