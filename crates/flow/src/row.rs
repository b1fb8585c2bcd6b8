//! The flow's row: descriptor, migrations, reading and writing. Only this file names all columns.

use foundry_core::{Error, FlowId, OrganizationId, Timestamp};
use foundry_store::{Encoded, Migration, Migrations, Row as StoredRow, Table, Value, step};

use crate::binding::Found;
use crate::status::{FlowStatus, Status, Woken};

/// The schema of the flow engine; a service lists it beside its own.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "flow",
    steps: &[
        step!("0001_flows"),
        Migration { version: 2, name: "class", sqlite: CLASS, postgres: CLASS },
        Migration { version: 3, name: "indexes", sqlite: INDEXES, postgres: INDEXES },
        Migration { version: 4, name: "fewer_indexes", sqlite: FEWER_INDEXES, postgres: FEWER_INDEXES },
    ],
};

const CLASS: &str = include_str!("../migrations/0002_class.sql");
const INDEXES: &str = include_str!("../migrations/0003_indexes.sql");
const FEWER_INDEXES: &str = include_str!("../migrations/0004_fewer_indexes.sql");

/// The newest signal of each key.
pub(crate) const SIGNALS: Table =
    Table::new("flow_signals", &["wait_key", "nonce", "signal_time"], &["wait_key"]);

/// The flows themselves. `reached`, `unwinding` and `cause_*` belong to older versions, which undid stages: they are
/// written empty, and not read.
pub(crate) const FLOWS: Table = Table::new(
    "flows",
    &[
        "flow_id",
        "kind",
        "key",
        "organization_id",
        "subject_id",
        "user_id",
        "traceparent",
        "input",
        "state",
        "status",
        "stage",
        "reached",
        "unwinding",
        "active",
        "attempt",
        "failures",
        "step",
        "epoch",
        "lease_owner",
        "due_time",
        "ready_time",
        "woken",
        "wait_key",
        "signal_seen",
        "deadline",
        "class",
        "reason",
        "message",
        "cause_stage",
        "cause_reason",
        "cause_message",
        "cancel_requested",
        "started_time",
        "stage_started_time",
        "status_time",
        "last_progress_time",
        "last_progress",
        "finished_time",
    ],
    &["flow_id"],
);

/// The engine's columns with encoded values, for `foundry verify`.
pub static ENCODED: [Encoded; 2] = [
    Encoded::json::<serde_json::Value>(&FLOWS, "input"),
    Encoded::json::<serde_json::Value>(&FLOWS, "state"),
];

/// A flow's row: the public facts and those that only the engine needs.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) status: FlowStatus,
    /// Counts the owner's commits, so that a commit with an unknown result is never applied twice.
    pub(crate) step: i64,
    /// When the row became due for the claim that holds it.
    pub(crate) ready_time: Timestamp,
    pub(crate) woken: Woken,
    /// What the last attempt found out, until its end is recorded; not stored.
    pub(crate) found: Option<Found>,
}

impl Row {
    pub(crate) fn read(r: &StoredRow) -> Result<Self, Error> {
        let status = FlowStatus {
            flow_id: r.text("flow_id")?.parse::<FlowId>().map_err(Error::internal)?,
            kind: r.text("kind")?.to_owned(),
            key: r.text("key")?.to_owned(),
            organization_id: r
                .opt_text("organization_id")?
                .map(str::parse::<OrganizationId>)
                .transpose()
                .map_err(Error::internal)?,
            subject_id: r.text("subject_id")?.to_owned(),
            user_id: r.text("user_id")?.to_owned(),
            traceparent: r.text("traceparent")?.to_owned(),
            input: json(r, "input")?,
            state: json(r, "state")?,
            status: Status::parse(r.text("status")?),
            transition: None,
            stage: r.text("stage")?.to_owned(),
            completed_stage: None,
            attempt: count(r, "attempt")?,
            failures: count(r, "failures")?,
            epoch: r.int("epoch")?,
            started_time: r.time("started_time")?,
            stage_started_time: r.time("stage_started_time")?,
            status_time: r.time("status_time")?,
            last_progress_time: r.time("last_progress_time")?,
            last_progress: r.text("last_progress")?.to_owned(),
            deadline: r.opt_time("deadline")?,
            due_time: r.opt_time("due_time")?,
            wait_key: r.opt_text("wait_key")?.map(str::to_owned),
            class: r.text("class")?.to_owned(),
            reason: r.text("reason")?.to_owned(),
            message: r.text("message")?.to_owned(),
            cancel_requested: r.bool("cancel_requested")?,
            finished_time: r.opt_time("finished_time")?,
        };
        Ok(Self {
            status,
            step: r.int("step")?,
            ready_time: r.time("ready_time")?,
            woken: Woken::parse(r.text("woken")?),
            found: None,
        })
    }

    /// What the owner's transition from `before` writes: the columns that differ, since no other worker writes them
    /// under this epoch. The progress is always written: `before` has newer progress than the table.
    pub(crate) fn transition_values(&self, before: &Self) -> Vec<(&'static str, Value)> {
        let mut set = self.own_values();
        let known = before.own_values();
        set.retain(|(column, value)| {
            column.starts_with("last_progress") || !known.iter().any(|(c, v)| c == column && v == value)
        });
        set
    }

    /// The columns that only the owner writes. A running row keeps its due time: that is its lease,
    /// which only claims and renewals move.
    fn own_values(&self) -> Vec<(&'static str, Value)> {
        let s = &self.status;
        let mut set: Vec<(&'static str, Value)> = vec![
            ("state", s.state.to_string().into_bytes().into()),
            ("status", s.status.as_str().into()),
            ("stage", (&s.stage).into()),
            ("attempt", s.attempt.into()),
            ("failures", s.failures.into()),
            ("step", self.step.into()),
            ("woken", self.woken.as_str().into()),
            ("wait_key", s.wait_key.as_deref().into()),
            ("deadline", s.deadline.into()),
            ("class", (&s.class).into()),
            ("reason", (&s.reason).into()),
            ("message", (&s.message).into()),
            ("stage_started_time", s.stage_started_time.into()),
            ("status_time", s.status_time.into()),
            ("last_progress_time", s.last_progress_time.into()),
            ("last_progress", (&s.last_progress).into()),
            ("finished_time", s.finished_time.into()),
        ];
        if s.status != Status::Running {
            set.push(("due_time", s.due_time.into()));
            set.push(("lease_owner", "".into()));
        }
        if s.status.is_finished() {
            set.push(("active", 0.into()));
        }
        set
    }
}

fn json(r: &StoredRow, column: &str) -> Result<serde_json::Value, Error> {
    serde_json::from_slice(&r.blob(column)?).map_err(Error::internal)
}

fn count(r: &StoredRow, column: &str) -> Result<u32, Error> {
    u32::try_from(r.int(column)?).map_err(Error::internal)
}
