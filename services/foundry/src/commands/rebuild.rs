//! `foundry rebuild`: makes damaged rows again from what else is stored.

use std::collections::BTreeMap;
use std::process::ExitCode;

use foundry_core::Env;
use foundry_server::DataDirectory;
use foundry_store::Unreadable;
use foundry_task::Rebuilt;

use super::verify::{all_damaged, cause};
use crate::cli::{Global, Output};
use crate::failure::Failure;
use crate::mesh::config;
use crate::mesh::databases::{self, ServiceDatabase};
use crate::output;

/// Rebuilds what can be derived, and lists what became of each damaged row.
///
/// # Errors
/// When the configuration is invalid, a mesh runs on the data directory, or a database cannot be opened.
pub async fn run(global: &Global) -> Result<ExitCode, Failure> {
    let (config, dir) = (config::load(global)?.value, config::data_dir(global)?);
    let databases = databases::all(&config, &dir);
    let mut rows = Vec::new();
    let damaged = all_damaged(&databases).await?;
    for database in &databases {
        let of_it = |(service, row): &(&str, Unreadable)| (*service == database.service).then(|| row.clone());
        let found: Vec<_> = damaged.iter().filter_map(of_it).collect();
        let became = match database.service {
            "task" if !found.is_empty() => {
                // Taken only now: it would create the directory of a mesh that never ran.
                let _held = DataDirectory::open(dir.join(database.service)).map_err(in_use)?;
                rebuild(database, &found, &databases).await?
            }
            _ => vec![Rebuilt::No; found.len()],
        };
        rows.extend(found.into_iter().zip(became).map(|(row, became)| (database.service, row, became)));
    }
    let left = rows.iter().filter(|(_, _, became)| *became == Rebuilt::No).count();
    match global.output {
        Output::Json if rows.is_empty() => output::line(r#"{"damaged":0}"#),
        Output::Json => rows.iter().for_each(|row| output::line(&json(row))),
        Output::Table if rows.is_empty() => output::line("nothing to rebuild: all stored data can be read"),
        Output::Table => {
            output::table(&["service", "table", "id", "column", "result"], rows.iter().map(cells).collect())
        }
    }
    if left == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("{left} of {} damaged rows cannot be derived from others", rows.len()))
        .next("restore them from a backup, or kill the tasks that they belong to"))
}

async fn rebuild(
    database: &ServiceDatabase,
    found: &[Unreadable],
    all: &[ServiceDatabase],
) -> Result<Vec<Rebuilt>, Failure> {
    let failed = |e: foundry_core::Error| {
        Failure::new(format!("the database of {} cannot be rebuilt: {}", database.service, cause(&e)))
            .next("restore the file from a backup if it is damaged itself; `foundry verify` shows that")
    };
    let mut became = foundry_task::rebuild(&database.url, &Env::system(), found).await.map_err(failed)?;
    let mut sources = BTreeMap::new();
    for (row, became) in found.iter().zip(&mut became).filter(|(_, became)| **became == Rebuilt::AtNextStart)
    {
        if !sources.contains_key(row.table) {
            sources.insert(row.table, databases::sources(all, row.table).await.map_err(failed)?);
        }
        // Nothing sends what its own service no longer has.
        if sources[row.table].as_ref().is_some_and(|there| !there.contains(&row.key)) {
            *became = Rebuilt::No;
        }
    }
    Ok(became)
}

fn in_use(error: foundry_server::DataDirectoryError) -> Failure {
    Failure::new(error.to_string()).next("stop the mesh first, and start it again afterwards")
}

fn name(became: Rebuilt) -> &'static str {
    match became {
        Rebuilt::Now => "rebuilt",
        Rebuilt::AtNextStart => "rebuilt when the mesh starts",
        Rebuilt::Removed => "removed: a newer one has replaced it",
        Rebuilt::No => "cannot be derived",
    }
}

fn cells((service, row, became): &(&str, Unreadable, Rebuilt)) -> Vec<String> {
    [service, row.table, &row.key, row.column, name(*became)].map(str::to_owned).into()
}

fn json((service, row, became): &(&str, Unreadable, Rebuilt)) -> String {
    let result = match became {
        Rebuilt::Now => "REBUILT",
        Rebuilt::AtNextStart => "AT_NEXT_START",
        Rebuilt::Removed => "REMOVED",
        Rebuilt::No => "NOT_DERIVABLE",
    };
    serde_json::json!({
        "service": service, "table": row.table, "id": row.key, "column": row.column, "result": result,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_shown_with_what_became_of_it() {
        let row = |became| {
            let row =
                Unreadable { table: "works", key: "tsk_1".into(), column: "data", cause: "broken".into() };
            ("task", row, became)
        };
        assert_eq!(cells(&row(Rebuilt::No)).join(" "), "task works tsk_1 data cannot be derived");
        assert_eq!(cells(&row(Rebuilt::AtNextStart))[4], "rebuilt when the mesh starts");
        assert!(json(&row(Rebuilt::Now)).contains(r#""result":"REBUILT""#));
    }
}
