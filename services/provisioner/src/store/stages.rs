//! Table `sandbox_stages`: one row per stage of a sandbox or an agent session.

use foundry_core::Error;
use foundry_flow::{FlowStatus, current_stage};
use foundry_proto::common::v1::{Stage, StageState};
use foundry_store::{Table, Value, WriteSet};

use crate::domain::head;

/// A row for each stage, by the id of its sandbox or agent session.
pub static STAGES: Table = Table::new(
    "sandbox_stages",
    &["entity_id", "stage", "state", "start_time", "end_time", "attempts", "reason", "message"],
    &["entity_id", "stage"],
);

/// Separators in the text that `select_stages!` makes of all stages: between rows, and between fields.
const ROW: char = '\u{1e}';
const FIELD: char = '\u{1f}';

/// All stages of the entity of the outer statement's `{id}` column as one text, for both databases.
macro_rules! select_stages {
    ($id:literal) => {
        concat!(
            "(SELECT string_agg(st.stage || '\u{1f}' || CAST(st.state AS TEXT) || '\u{1f}' || \
             COALESCE(CAST(st.start_time AS TEXT), '') || '\u{1f}' || COALESCE(CAST(st.end_time AS TEXT), '') || \
             '\u{1f}' || CAST(st.attempts AS TEXT) || '\u{1f}' || st.reason || '\u{1f}' || st.message, '\u{1e}') \
             FROM sandbox_stages st WHERE st.entity_id = ",
            $id,
            ") AS stages"
        )
    };
}
pub(crate) use select_stages;

/// Parses the text of `select_stages!`, and puts the stages in the given order.
pub fn read(text: Option<&str>, order: &[&str]) -> Result<Vec<Stage>, Error> {
    let mut stages = Vec::new();
    for row in text.unwrap_or_default().split(ROW).filter(|r| !r.is_empty()) {
        let fields: Vec<&str> = row.split(FIELD).collect();
        let [name, state, start, end, attempts, reason, message] = fields.as_slice() else {
            return Err(Error::internal("a stored stage has an unexpected format"));
        };
        let time = |t: &str| t.parse().ok().map(|t| foundry_core::Timestamp::from_micros(t).to_proto());
        stages.push(Stage {
            name: (*name).to_owned(),
            state: state.parse().map_err(Error::internal)?,
            start_time: time(start),
            end_time: time(end),
            attempts: attempts.parse().map_err(Error::internal)?,
            reason: (*reason).to_owned(),
            message: (*message).to_owned(),
        });
    }
    stages.sort_by_key(|s| order.iter().position(|o| *o == s.name));
    Ok(stages)
}

/// Writes one stage.
pub fn put(ws: &mut WriteSet, entity: &str, stage: &Stage) {
    let time = |t: &Option<prost_types::Timestamp>| {
        t.as_ref().map_or(Value::Null, |t| foundry_core::Timestamp::from_proto(t).into())
    };
    let message: String = head(&stage.message, 500).0.replace([ROW, FIELD], " ");
    ws.upsert(
        &STAGES,
        [
            entity.into(),
            stage.name.as_str().into(),
            stage.state.into(),
            time(&stage.start_time),
            time(&stage.end_time),
            stage.attempts.into(),
            stage.reason.replace([ROW, FIELD], " ").into(),
            message.into(),
        ],
    );
}

/// Sets these stages to pending.
pub fn reset(ws: &mut WriteSet, entity: &str, names: &[&str]) {
    for name in names {
        let state = StageState::Pending.into();
        put(ws, entity, &Stage { name: (*name).to_owned(), state, ..Stage::default() });
    }
}

/// Writes the shown stages that a flow's transition changed.
pub fn record(ws: &mut WriteSet, entity: &str, flow: &FlowStatus, shown: &[&str]) {
    if let Some(done) = flow.completed_stage.as_deref().filter(|s| shown.contains(s) && **s != flow.stage) {
        ws.update_where(
            &STAGES,
            &[("entity_id", entity.into()), ("stage", done.into())],
            &[
                ("state", i32::from(StageState::Done).into()),
                ("end_time", flow.status_time.into()),
                ("reason", "".into()),
                ("message", "".into()),
            ],
        );
    }
    if shown.contains(&flow.stage.as_str()) {
        put(ws, entity, &current_stage(flow));
    }
}
