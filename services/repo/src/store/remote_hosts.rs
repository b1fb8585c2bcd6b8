//! Table `remote_hosts`: the hosts of remotes that have failed since they last answered. A row goes when the host answers.

use std::collections::HashMap;

use foundry_core::Result;
use foundry_store::{Reader, Table, WriteSet};

use crate::domain::sync::FailingHost;

pub const REMOTE_HOSTS: Table =
    Table::new("remote_hosts", &["host", "failures", "failing_since", "asked_next"], &["host"]);

/// All failing hosts.
pub async fn all(from: &impl Reader) -> Result<HashMap<String, FailingHost>> {
    let rows = from.query("SELECT host, failures, failing_since, asked_next FROM remote_hosts", &[]).await?;
    let read = |row: &foundry_store::Row| {
        let failing = FailingHost {
            failures: u32::try_from(row.int("failures")?).unwrap_or(u32::MAX),
            since: row.time("failing_since")?,
            asked_next: row.time("asked_next")?,
        };
        Ok((row.text("host")?.to_owned(), failing))
    };
    rows.iter().map(read).collect()
}

/// Records the failures of a host.
pub fn put(ws: &mut WriteSet, host: &str, failing: &FailingHost) {
    let values = vec![host.into(), failing.failures.into(), failing.since.into(), failing.asked_next.into()];
    ws.upsert(&REMOTE_HOSTS, values);
}

/// Records that a host has answered.
pub fn answered(ws: &mut WriteSet, host: &str) {
    ws.remove(&REMOTE_HOSTS, &[host.into()]);
}
