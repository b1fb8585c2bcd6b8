//! How much of what agents say and do is stored, and what is left out beyond the limits.
//!
//! The truth are the sums of the database. They are read at most once in [`FRESH`], and what this process stores is added
//! to them, so that recording costs no statement of its own. Other processes add to the same sums: a limit may be
//! exceeded by what they store in that time, and by one stretch of the log of each session.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use foundry_core::{Error, OrganizationId, Timestamp, lock};
use foundry_proto::common::v1::{Condition, NoticeKind, TranscriptPart};

use crate::domain::fold::{Fold, Folded, notice};
use crate::domain::{OutputLimit, Session, leave_out};
use crate::shared::Shared;
use crate::store::sessions;

/// How long the sums of the database are used.
const FRESH: Duration = Duration::from_secs(10);

/// How many bytes are stored, by task and by organization.
#[derive(Default)]
pub struct StoredOutput(Mutex<Option<Sums>>);

struct Sums {
    read_time: Timestamp,
    tasks: HashMap<String, u64>,
    organizations: HashMap<OrganizationId, u64>,
}

impl StoredOutput {
    /// Adds what was stored, or removed, of a session.
    pub fn add(&self, session: &Session, bytes: i64) {
        if let Some(sums) = lock(&self.0).as_mut() {
            let task = sums.tasks.entry(session.task_id.clone()).or_default();
            *task = task.saturating_add_signed(bytes);
            let organization = sums.organizations.entry(session.organization_id.clone()).or_default();
            *organization = organization.saturating_add_signed(bytes);
        }
    }

    /// The bytes of a session's task and of its organization; none when the sums have to be read.
    fn of(&self, session: &Session, now: Timestamp) -> Option<(u64, u64)> {
        let sums = lock(&self.0);
        let sums = sums.as_ref().filter(|sums| now.since(sums.read_time) < FRESH)?;
        let task = sums.tasks.get(&session.task_id).copied().unwrap_or_default();
        Some((task, sums.organizations.get(&session.organization_id).copied().unwrap_or_default()))
    }

    fn replace(&self, rows: Vec<(OrganizationId, String, i64)>, now: Timestamp) {
        let mut sums = Sums { read_time: now, tasks: HashMap::new(), organizations: HashMap::new() };
        for (organization, task, bytes) in rows {
            let bytes = u64::try_from(bytes).unwrap_or_default();
            *sums.organizations.entry(organization).or_default() += bytes;
            sums.tasks.insert(task, bytes);
        }
        *lock(&self.0) = Some(sums);
    }
}

/// What was left out of a stretch of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeftOut {
    /// Its encoded bytes.
    bytes: i64,
    /// The limit, if anything of the running turn was left out.
    limit: Option<OutputLimit>,
}

impl LeftOut {
    /// All bytes left out of the session with this stretch; none when it adds nothing.
    pub fn total(self, session: &Session) -> Option<i64> {
        (self.bytes > 0).then(|| session.left_out_bytes.saturating_add(self.bytes))
    }

    /// The condition of the session, if anything of its turn was left out.
    pub fn condition(self, session: &Session, now: Timestamp) -> Option<Condition> {
        let condition = self.limit?.condition(session.left_out_bytes.saturating_add(self.bytes));
        let known = session.condition.reason == condition.reason;
        let since_time = session.condition.since_time.filter(|_| known).or_else(|| Some(now.to_proto()));
        Some(Condition { since_time, ..condition })
    }
}

/// Leaves out what the agent says and does if a limit is reached; the first time in a turn with a notice in its place.
///
/// # Errors
/// When the database fails.
pub async fn limit(
    shared: &Shared,
    session: &Session,
    after: &mut Fold,
    folded: &mut Folded,
) -> Result<LeftOut, Error> {
    if folded.parts.is_empty() {
        return Ok(LeftOut::default());
    }
    let Some(limit) = reached(shared, session).await? else { return Ok(LeftOut::default()) };
    let noticed = after.limit_noticed.as_ref() == Some(&session.message_id);
    let part = || TranscriptPart {
        message_id: session.message_id.clone(),
        body: Some(notice(NoticeKind::LimitReached, limit.notice())),
        ..TranscriptPart::default()
    };
    let bytes = leave_out(folded, (!noticed).then(part));
    if bytes > 0 && !noticed {
        after.limit_noticed = Some(session.message_id.clone());
    }
    Ok(LeftOut { bytes, limit: (noticed || bytes > 0).then_some(limit) })
}

/// The condition of a session whose latest turn is not stored as a whole; none when it is, or the limit has room again.
///
/// # Errors
/// When the database fails.
pub async fn standing(shared: &Shared, session: &Session) -> Result<Option<Condition>, Error> {
    if session.left_out_bytes == 0 || session.fold.limit_noticed.as_ref() != Some(&session.message_id) {
        return Ok(None);
    }
    let left_out = LeftOut { bytes: 0, limit: reached(shared, session).await? };
    Ok(left_out.condition(session, shared.env.clock.now()))
}

async fn reached(shared: &Shared, session: &Session) -> Result<Option<OutputLimit>, Error> {
    let (limits, now) = (&shared.config.output, shared.env.clock.now());
    let stored = match shared.stored_output.of(session, now) {
        Some(stored) => stored,
        None => {
            shared.stored_output.replace(sessions::stored_bytes(&shared.store).await?, now);
            shared.stored_output.of(session, now).unwrap_or_default()
        }
    };
    Ok(OutputLimit::reached(stored, (limits.task_bytes, limits.organization_bytes)))
}
