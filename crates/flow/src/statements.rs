//! The engine's own statements, in both dialects. Claims and renewals are single writing statements;
//! everything else a flow writes goes through write sets.

use std::sync::LazyLock;

use foundry_core::Error;
use foundry_store::DialectSql;

use crate::binding::Binding;
use crate::row::FLOWS;

/// All statements of one engine. Their texts live as long as the process: they are built once per engine, from nothing
/// but the static tables of its flows.
pub(crate) struct Statements {
    pub(crate) claims: Vec<(&'static str, DialectSql)>,
    pub(crate) next_due: &'static str,
    pub(crate) needs_repair: &'static str,
    pub(crate) park: DialectSql,
    pub(crate) unpark: DialectSql,
}

impl Statements {
    pub(crate) fn of(bounds: &[Binding]) -> Self {
        Self {
            claims: bounds.iter().map(|b| (b.kind, claim(b))).collect(),
            next_due: text(next_due(bounds)),
            needs_repair: text(needs_repair(bounds)),
            park: park(bounds),
            unpark: unpark(bounds),
        }
    }
}

fn text(sql: String) -> &'static str {
    Box::leak(sql.into_boxed_str())
}

const fn same(sql: &'static str) -> DialectSql {
    DialectSql { sqlite: sql, postgres: sql }
}

/// Takes due flows of one kind: $1 now, $2 end of the lease, $3 owner, $4 at most this many.
///
/// Each claimed row gets a new epoch, whatever its state: an owner that still relies on its lease can write nothing
/// from here on.
fn claim(bound: &Binding) -> DialectSql {
    let (kind, stages) = (bound.kind, stage_list(bound));
    let timeouts: String = bound
        .stages
        .iter()
        .map(|s| {
            // Large enough for "never", small enough to be added to any time.
            let micros = i64::try_from(s.timeout.as_micros()).unwrap_or(i64::MAX).min(i64::MAX / 4);
            format!(" WHEN '{}' THEN {micros}", s.name)
        })
        .collect();
    let due = format!(
        "SELECT flow_id FROM flows WHERE kind = '{kind}' AND due_time <= $1 AND stage IN ({stages}) \
         ORDER BY due_time, flow_id LIMIT $4"
    );
    // The reason of a wait ends with it; that of a failed attempt is shown until the next one ends.
    let waited = "status = 'waiting' OR (status = 'ready' AND woken = 'signal')";
    let forgotten: String = ["class", "reason", "message"]
        .map(|column| format!("{column} = CASE WHEN {waited} THEN '' ELSE {column} END,"))
        .concat();
    let set = format!(
        "SET epoch = epoch + 1, lease_owner = $3, ready_time = due_time, due_time = $2, status_time = $1, \
         deadline = $1 + CASE stage{timeouts} END, attempt = attempt + 1, wait_key = NULL, \
         {forgotten} \
         woken = CASE status WHEN 'waiting' THEN 'deadline' WHEN 'running' THEN 'recovered' ELSE woken END, \
         status = 'running'"
    );
    let columns = FLOWS.columns().join(", ");
    DialectSql {
        sqlite: text(format!("UPDATE flows {set} WHERE flow_id IN ({due}) RETURNING {columns}")),
        // A sub-select with a limit may be run again for each row; a materialized one is not.
        postgres: text(format!(
            "WITH due AS MATERIALIZED ({due} FOR UPDATE SKIP LOCKED) UPDATE flows {set} \
             WHERE flow_id = ANY (ARRAY(SELECT flow_id FROM due)) RETURNING {columns}"
        )),
    }
}

/// When the next flow of each kind is due, as (kind, due_time); reads only.
fn next_due(bounds: &[Binding]) -> String {
    let each: Vec<String> = bounds
        .iter()
        .map(|b| {
            format!(
                "SELECT kind, due_time FROM (SELECT kind, due_time FROM flows WHERE kind = '{}' \
                 AND due_time IS NOT NULL AND stage IN ({}) ORDER BY due_time LIMIT 1) AS f",
                b.kind,
                stage_list(b)
            )
        })
        .collect();
    each.join(" UNION ALL ")
}

/// Extends the leases of the flows in the JSON list $2 that owner $3 holds, to $1; returns the epoch of each and
/// whether its cancel was requested.
pub(crate) const RENEW: DialectSql = DialectSql {
    sqlite: "UPDATE flows SET due_time = $1 WHERE flow_id IN (SELECT value FROM json_each($2)) \
             AND lease_owner = $3 AND status = 'running' RETURNING flow_id, epoch, cancel_requested",
    postgres: "UPDATE flows SET due_time = $1 WHERE flow_id IN (SELECT jsonb_array_elements_text($2::jsonb)) \
               AND lease_owner = $3 AND status = 'running' RETURNING flow_id, epoch, cancel_requested",
};

/// The flows of owner $1 whose cancel was requested.
pub(crate) const CANCELLED_HERE: &str =
    "SELECT flow_id FROM flows WHERE status = 'running' AND lease_owner = $1 AND cancel_requested = 1";

/// The flow of the kind $1 that holds the key $2, also when it is parked.
pub(crate) const HOLDER: &str = "SELECT flow_id FROM flows WHERE kind = $1 AND key = $2 AND active = 1";

/// The flows of the kind $2 on the entity $1 that are unfinished and not parked, the oldest first; of the same age, by
/// key.
pub(crate) const UNFINISHED: &str = "SELECT flow_id FROM flows \
     WHERE subject_id = $1 AND kind = $2 AND active = 1 AND status <> 'parked' \
     ORDER BY started_time, key LIMIT 100";

/// A flow by its id $1. Columns are named one by one here and in [`by_subject`]: where an older process runs beside a
/// newer schema, PostgreSQL refuses a prepared `SELECT *` whose columns have changed.
pub(crate) fn by_id() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} FROM flows WHERE flow_id = $1", FLOWS.columns().join(", ")));
    &TEXT
}

/// The flows of the entity $1, the newest first.
pub(crate) fn by_subject() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let columns = FLOWS.columns().join(", ");
        format!(
            "SELECT {columns} FROM flows WHERE subject_id = $1 ORDER BY started_time DESC, flow_id DESC LIMIT 100"
        )
    });
    &TEXT
}

/// The newest signal of the key $1.
pub(crate) const NEWEST_SIGNAL: &str = "SELECT nonce FROM flow_signals WHERE wait_key = $1";

/// Whether the waiting flow $1 has an unseen signal.
pub(crate) const HAS_SIGNAL: &str = "SELECT 1 AS one FROM flows f JOIN flow_signals s ON s.wait_key = f.wait_key \
     WHERE f.flow_id = $1 AND f.status = 'waiting' AND s.nonce <> f.signal_seen";

/// Makes waiting flows with an unseen signal due at $1, only the flow $2 unless that is empty: those
/// whose signal's transaction could not see them waiting yet.
pub(crate) const APPLY_SIGNALS: DialectSql = same(
    "UPDATE flows SET status = 'ready', due_time = $1, woken = 'signal', signal_seen = \
     (SELECT nonce FROM flow_signals s WHERE s.wait_key = flows.wait_key) \
     WHERE wait_key IS NOT NULL AND status = 'waiting' AND ($2 = '' OR flow_id = $2) \
     AND EXISTS (SELECT 1 FROM flow_signals s \
     WHERE s.wait_key = flows.wait_key AND s.nonce <> flows.signal_seen) RETURNING flow_id",
);

/// Ends every lease at $1: for the process that owns the data directory, where every left-over lease
/// is that of a dead process.
pub(crate) const END_ALL_LEASES: DialectSql = same(
    "UPDATE flows SET epoch = epoch + 1, lease_owner = '', status = 'ready', woken = 'recovered', \
     due_time = $1 WHERE active = 1 AND status = 'running' RETURNING flow_id",
);

/// Parks flows that are overdue since $2 (now is $1) and whose kind or stage is not known here.
fn park(bounds: &[Binding]) -> DialectSql {
    let unknown = known(bounds);
    same(text(format!(
        "UPDATE flows SET epoch = epoch + 1, lease_owner = '', status = 'parked', due_time = NULL, \
         status_time = $1, class = '', reason = 'STAGE_UNKNOWN', \
         message = 'no running worker knows this kind or stage' \
         WHERE due_time <= $2 AND NOT ({unknown}) RETURNING {}",
        FLOWS.columns().join(", ")
    )))
}

/// Makes parked flows due at $1 whose kind and stage are known here.
fn unpark(bounds: &[Binding]) -> DialectSql {
    same(text(format!(
        "UPDATE flows SET status = 'ready', status_time = $1, due_time = $1, class = '', reason = '', message = '' \
         WHERE status = 'parked' AND ({}) RETURNING flow_id",
        known(bounds)
    )))
}

/// Whether anything is parked, waiting with an unseen signal, or overdue since $1 and unknown here:
/// read before the writes of a sweep, so that an idle service writes nothing.
fn needs_repair(bounds: &[Binding]) -> String {
    let known = known(bounds);
    format!(
        "SELECT 1 AS one WHERE EXISTS (SELECT 1 FROM flows WHERE status = 'parked' AND ({known})) \
         OR EXISTS (SELECT 1 FROM flows WHERE due_time <= $1 AND NOT ({known})) \
         OR EXISTS (SELECT 1 FROM flows f JOIN flow_signals s ON s.wait_key = f.wait_key \
         WHERE f.wait_key IS NOT NULL AND f.status = 'waiting' AND s.nonce <> f.signal_seen)"
    )
}

/// Deletes at most $2 flows that ended before $1.
pub(crate) const DELETE_FINISHED: DialectSql = same(
    "DELETE FROM flows WHERE flow_id IN (SELECT flow_id FROM flows WHERE finished_time < $1 \
     AND status IN ('done', 'failed', 'cancelled') LIMIT $2) RETURNING flow_id",
);

/// The same for the flows of kind $3.
pub(crate) const DELETE_FINISHED_OF: DialectSql = same(
    "DELETE FROM flows WHERE flow_id IN (SELECT flow_id FROM flows WHERE finished_time < $1 AND kind = $3 \
     AND status IN ('done', 'failed', 'cancelled') LIMIT $2) RETURNING flow_id",
);

/// Deletes at most $2 signals older than $1.
pub(crate) const DELETE_SIGNALS: DialectSql = same(
    "DELETE FROM flow_signals WHERE wait_key IN (SELECT wait_key FROM flow_signals \
     WHERE signal_time < $1 LIMIT $2) RETURNING wait_key",
);

/// Refuses names that would have to be quoted in the statements above.
pub(crate) fn check_names(bound: &Binding) -> Result<(), Error> {
    let plain = |s: &str| {
        !s.is_empty()
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b))
    };
    let names = std::iter::once(bound.kind).chain(bound.stages.iter().map(|s| s.name));
    for name in names {
        if !plain(name) {
            return Err(Error::internal(format!("flow name {name:?} must be of a-z, 0-9, _, - and .")));
        }
    }
    Ok(())
}

fn known(bounds: &[Binding]) -> String {
    let each: Vec<String> =
        bounds.iter().map(|b| format!("(kind = '{}' AND stage IN ({}))", b.kind, stage_list(b))).collect();
    if each.is_empty() { "1 = 0".to_owned() } else { each.join(" OR ") }
}

fn stage_list(bound: &Binding) -> String {
    let names: Vec<String> = bound.stages.iter().map(|s| format!("'{}'", s.name)).collect();
    names.join(", ")
}
