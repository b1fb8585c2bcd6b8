//! How new the branches of a repository are, and when its remote is asked next by itself.

use std::collections::HashMap;
use std::time::Duration;

use foundry_core::Timestamp;
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1::{self, BranchSyncStatus};
use serde::{Deserialize, Serialize};

use super::repository::{Repository, State};

/// After its last use a repository counts as active for this long.
const ACTIVE_FOR: Duration = Duration::from_secs(30 * 60);
/// For this long after the last announcement, changes are expected to be announced.
const ANNOUNCED_FOR: Duration = Duration::from_secs(24 * 3600);
/// From the beginning of one synchronization to that of the next one that an announcement brings forward: what is announced
/// in between is read by one of them.
const BETWEEN_ANNOUNCED: Duration = Duration::from_secs(2);
/// The same after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// An announcement this long before a poll may be that of what the poll has found.
const CROSSING: Duration = Duration::from_secs(60);
/// At most this long passes between two attempts on a remote that fails, unless the idle pace is slower.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// After this many failures in a row, of any of its repositories, a host is left alone for a while.
const FAILURES_OF_A_HOST: u32 = 3;
/// How long the first of those pauses is; each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Reasons of failures that are the fault of the host rather than of one repository.
const FAULTS_OF_A_HOST: [&str; 3] = ["GIT_TIMEOUT", "GIT_REMOTE_UNREACHABLE", "STAGE_TIMED_OUT"];

/// What a synchronization is started for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Somebody registered the repository or requested a refresh.
    #[default]
    Request,
    /// A task starts on a branch.
    Task,
    /// It was due in the background.
    Poll,
    /// A webhook announced a change.
    Webhook,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Task => "task",
            Self::Poll => "poll",
            Self::Webhook => "webhook",
        }
    }

    /// Parses the stored text; an unknown one, and none, counts as a request.
    pub fn parse(text: &str) -> Self {
        match text {
            "task" => Self::Task,
            "poll" => Self::Poll,
            "webhook" => Self::Webhook,
            _ => Self::Request,
        }
    }

    fn to_proto(self) -> v1::BranchSyncSource {
        match self {
            Self::Request => v1::BranchSyncSource::Request,
            Self::Task => v1::BranchSyncSource::Task,
            Self::Poll => v1::BranchSyncSource::Poll,
            Self::Webhook => v1::BranchSyncSource::Webhook,
        }
    }

    /// Whether nobody waits for it: it is shown only if it takes long or fails.
    pub fn is_quiet(self) -> bool {
        matches!(self, Self::Poll | Self::Webhook)
    }
}

/// What the row of a repository records about its synchronizations.
#[derive(Clone, Debug, Default)]
pub struct SyncFacts {
    /// What the last successful one was started for.
    pub source: Source,
    /// What the one that follows the running one is for.
    pub wanted_source: Source,
    /// When the next one is due in the background; 0 = to be planned, [`ENDED`] = to be planned after one that ended.
    pub next: Timestamp,
    /// Background synchronizations that failed since the last success.
    pub failures: u32,
    /// Since when they fail, and the last reason and text.
    pub stale: Option<(Timestamp, String, String)>,
    /// The host that is not asked for a while, and since when it fails.
    pub held: Option<(String, Timestamp)>,
    /// When the repository was last used.
    pub used: Timestamp,
    /// Whether a webhook has announced a change that no synchronization since then has read.
    pub announced: bool,
    /// When one last did; the epoch = none whose announcements can be relied on.
    pub announce_time: Timestamp,
}

/// The next time of a repository whose synchronization has ended.
pub const ENDED: Timestamp = Timestamp::from_micros(-1);

/// How often remotes are asked by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// For repositories that are used.
    pub active: Duration,
    /// For all others.
    pub idle: Duration,
    /// How many are asked at the same time; 0 = none is asked by itself.
    pub at_once: usize,
}

impl Pace {
    /// How many of them may be of one organization: one place is left for the others.
    pub fn of_one_organization(&self) -> usize {
        self.at_once.saturating_sub(1).max(1)
    }

    /// How long to wait after a synchronization, or after this many failed ones, before the next one. `jitter` is a
    /// number from 0 to 1, which spreads those that began together by a fifth in both directions.
    pub fn delay(&self, is_active: bool, failures: u32, jitter: f64) -> Duration {
        let usual = if is_active { self.active } else { self.idle };
        let longest = self.idle.max(LONGEST_PAUSE);
        let backoff = self.active.saturating_mul(1 << failures.min(16));
        let delay = if failures == 0 { usual } else { backoff.max(usual).min(longest) };
        delay.mul_f64(0.8 + 0.4 * jitter)
    }
}

/// Whether the repository was used lately.
pub fn is_active(facts: &SyncFacts, now: Timestamp) -> bool {
    facts.used.as_micros() > 0 && now.since(facts.used) < ACTIVE_FOR
}

/// Whether a webhook announces the changes of the repository, so that it need not be asked often. A day without an
/// announcement, or a change that a poll found first, ends that.
pub fn is_announced(facts: &SyncFacts, now: Timestamp) -> bool {
    facts.announce_time.as_micros() > 0 && now.since(facts.announce_time) < ANNOUNCED_FOR
}

/// Whether a change that a poll found from `begin` on should have been announced before: the announcement may have crossed it.
pub fn is_missed(facts: &SyncFacts, begin: Timestamp) -> bool {
    facts.announce_time.as_micros() > 0 && facts.announce_time.plus(CROSSING) < begin
}

/// When an announced change is read: now, or soon after the last attempt, so that those of a burst are read together.
pub fn due_by_announcement(r: &Repository, now: Timestamp) -> Timestamp {
    let failed = r.condition.since_time.as_ref().map(Timestamp::from_proto);
    let earliest = match (r.state, failed) {
        (State::Error, Some(failed)) => failed.plus(AFTER_FAILURE),
        _ => r.listed_time.plus(BETWEEN_ANNOUNCED),
    };
    // A clock that was set back must not put it off.
    if earliest > now.plus(AFTER_FAILURE) { now } else { earliest.max(now) }
}

/// A host that has failed since it last answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingHost {
    /// Failures in a row, over all its repositories.
    pub failures: u32,
    /// When the first of them was.
    pub since: Timestamp,
    /// Before this time it is not asked by itself.
    pub asked_next: Timestamp,
}

impl FailingHost {
    /// The host after one more failure.
    pub fn failed(before: Option<&Self>, now: Timestamp) -> Self {
        let failures = before.map_or(0, |h| h.failures).saturating_add(1);
        let pause = match failures.checked_sub(FAILURES_OF_A_HOST) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE.saturating_mul(1 << more.min(16)).min(LONGEST_PAUSE),
        };
        Self { failures, since: before.map_or(now, |h| h.since), asked_next: now.plus(pause) }
    }

    /// Whether it has failed so often that it is asked by one repository at a time.
    pub fn is_doubtful(&self) -> bool {
        self.failures >= FAILURES_OF_A_HOST
    }
}

/// Whether a failure with this reason counts against the host.
pub fn is_fault_of_host(reason: &str) -> bool {
    FAULTS_OF_A_HOST.contains(&reason)
}

/// The host of a remote, with its port if it names one; empty for a local path.
pub fn host_of(url: &str) -> &str {
    let of_authority = |text: &'_ str| text.rsplit_once('@').map_or(0, |(user, _)| user.len() + 1);
    if let Some((scheme, rest)) = url.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        return if scheme == "file" { "" } else { &authority[of_authority(authority)..] };
    }
    match url.split_once(':') {
        // `user@host:path`, as ssh writes it.
        Some((authority, _)) if !authority.contains('/') => &authority[of_authority(authority)..],
        _ => "",
    }
}

/// The repositories, each due, that may be synchronized now: those of an organization in their order, and organizations
/// in turns. `running` counts those that are running already.
pub fn chosen<T>(
    due: Vec<(String, T)>,
    running: &HashMap<String, usize>,
    pace: &Pace,
) -> (Vec<T>, Vec<(String, T)>) {
    let mut total: usize = running.values().sum();
    let mut of_each = running.clone();
    let (mut chosen, mut left) = (Vec::new(), Vec::new());
    for (organization, one) in due {
        let count = of_each.entry(organization.clone()).or_default();
        if total < pace.at_once && *count < pace.of_one_organization() {
            *count += 1;
            total += 1;
            chosen.push(one);
        } else {
            left.push((organization, one));
        }
    }
    (chosen, left)
}

/// How new the branches are, for callers.
pub fn branch_sync(r: &Repository) -> v1::BranchSync {
    let as_of = match r.listed_time.as_micros() {
        0 => r.sync_time,
        _ => Some(r.listed_time),
    };
    let stale = stale(r);
    let status = match (as_of, r.state) {
        (None, _) if stale.is_none() => BranchSyncStatus::Pending,
        _ if stale.is_some() => BranchSyncStatus::Stale,
        (_, State::Syncing) => BranchSyncStatus::Syncing,
        _ => BranchSyncStatus::Current,
    };
    // Before the first attempt has succeeded, a repository is pending all the time.
    let may_run = matches!(r.state, State::Pending | State::Syncing);
    v1::BranchSync {
        status: status.into(),
        as_of: as_of.map(Timestamp::to_proto),
        source: as_of.map(|_| r.sync.source.to_proto().into()).unwrap_or_default(),
        stale,
        next_refresh_time: (r.sync.next.as_micros() > 0).then(|| r.sync.next.to_proto()),
        host: host_of(&r.url).to_owned(),
        running_since: r.condition.attempt_time.filter(|_| may_run),
        announce_time: (r.sync.announce_time.as_micros() > 0).then(|| r.sync.announce_time.to_proto()),
    }
}

/// Why nothing newer is known.
fn stale(r: &Repository) -> Option<Condition> {
    let failed = match &r.sync.stale {
        Some((since, reason, message)) => Some(Condition {
            reason: reason.clone(),
            message: message.clone(),
            since_time: Some(since.to_proto()),
            // Another attempt may be running, about which the row says other things.
            ..if r.condition.reason == *reason { r.condition.clone() } else { Condition::default() }
        }),
        None => (r.state == State::Error).then(|| r.condition.clone()),
    };
    if let Some(failed) = failed {
        let message = match &r.sync.held {
            Some((host, _)) => format!("{}; {host} is asked less often until it answers", failed.message),
            None => failed.message.clone(),
        };
        return Some(Condition { message, ..failed });
    }
    let (host, since) = r.sync.held.as_ref()?;
    Some(Condition {
        reason: "REMOTE_HOST_FAILING".to_owned(),
        message: format!("{host} does not answer, and is asked less often until it does"),
        since_time: Some(since.to_proto()),
        next_attempt_time: (r.sync.next.as_micros() > 0).then(|| r.sync.next.to_proto()),
        retryable: true,
        next_action: "none needed: it is asked again by itself; a refresh asks it at once".to_owned(),
        ..Condition::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { active: Duration::from_secs(60), idle: Duration::from_secs(900), at_once: 4 };

    #[test]
    fn a_used_repository_is_asked_often_an_idle_one_seldom_and_a_failing_one_ever_less() {
        let seconds = |active, failures| PACE.delay(active, failures, 0.5).as_secs();
        assert_eq!([seconds(true, 0), seconds(false, 0)], [60, 900]);
        assert_eq!([1, 2, 3, 6, 60].map(|failures| seconds(true, failures)), [120, 240, 480, 3600, 3600]);
        assert_eq!(seconds(false, 1), 900);
        let spread = [0.0, 1.0].map(|jitter| PACE.delay(false, 0, jitter).as_secs());
        assert_eq!(spread, [720, 1080]);
    }

    #[test]
    fn a_host_is_left_alone_after_its_third_failure_for_ever_longer() {
        let (mut now, mut host) = (Timestamp::from_micros(1_000_000), None);
        let first = now;
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let failed = FailingHost::failed(host.as_ref(), now);
            pauses.push(failed.asked_next.since(now).as_secs());
            assert_eq!(failed.since, first);
            now = now.plus(Duration::from_secs(1));
            host = Some(failed);
        }
        assert_eq!(pauses, [0, 0, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn the_host_of_a_remote_is_found_in_each_form_of_its_address() {
        for (url, host) in [
            ("https://example.org/a.git", "example.org"),
            ("https://user@example.org:8443/a", "example.org:8443"),
            ("ssh://git@example.org/a", "example.org"),
            ("git@example.org:a/b.git", "example.org"),
            ("/srv/git/a", ""),
            ("file:///srv/git/a", ""),
            ("/srv/odd:name", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn one_organization_never_takes_all_places() {
        let due: Vec<(String, usize)> = (0..10).map(|n| ("big".to_owned(), n)).collect();
        let (now, left) = chosen(due.clone(), &HashMap::new(), &PACE);
        assert_eq!((now, left.len()), (vec![0, 1, 2], 7));
        let mut both = due;
        both.push(("small".to_owned(), 99));
        assert_eq!(chosen(both, &HashMap::from([("big".to_owned(), 2)]), &PACE).0, [0, 99]);
        assert!(
            chosen(vec![("x".to_owned(), 0)], &HashMap::from([("big".to_owned(), 4)]), &PACE).0.is_empty()
        );
    }
}
