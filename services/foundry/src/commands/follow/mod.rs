//! Live views: each is a watch that survives broken connections and restarts. Ctrl-C only detaches.

mod conversation;
mod creation;
mod job;
mod repository;
mod retry;
mod summary;
mod words;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use foundry_core::{Env, Tasks};
use foundry_proto::common::v1::Condition;
use foundry_proto::task::v1::{
    Session, SessionItem, TaskItem, WatchSessionRequest, WatchTaskRequest, session_item,
};
use foundry_watch::{Consumer, ConsumerConfig, Event, State};
use tokio::time::Instant;

use crate::client::Gateway;
use crate::failure::Failure;
use crate::output;

pub use conversation::{Until, conversation, message};
pub use creation::{creation, task};
pub use job::job;
pub use repository::{branches, credential, removal, repository};
pub use retry::retry;
pub use summary::{HEADER as SUMMARY_HEADER, organization, row as summary_row};
pub use work::{about_work, applies_where, handed_over, not_saved_words, outstanding};

/// Prints why something is in its state; nothing for an empty condition.
pub fn print_condition(condition: Option<&Condition>) {
    let Some(c) = condition else { return };
    if !c.reason.is_empty() || !c.message.is_empty() {
        output::line(&format!("  reason  {} {}", c.reason, output::inert(&c.message)));
    }
    if !c.waiting_on.is_empty() {
        let attempt = if c.attempt > 0 { format!(", attempt {}", c.attempt) } else { String::new() };
        output::line(&format!(
            "  waiting for {}{attempt}, since {}",
            c.waiting_on,
            output::time(c.since_time.as_ref())
        ));
    }
    if let Some(next) = next_attempt(c) {
        output::line(&format!("  {next}"));
    }
    if asks_for_something(c) {
        output::line(&format!("  next    {}", output::inert(&c.next_action)));
    }
}

/// Prints one thing that is unusual about a task, with what can be done.
pub fn print_notice(notice: &Condition) {
    output::line(&format!("  notice  {} {}", notice.reason, output::inert(&notice.message)));
    if asks_for_something(notice) {
        output::line(&format!("  next    {}", output::inert(&notice.next_action)));
    }
}

/// When the next attempt is made after failed ones; none if none is scheduled.
fn next_attempt(c: &Condition) -> Option<String> {
    let at = output::time(Some(c.next_attempt_time.as_ref()?));
    Some(match (c.attempt, c.max_attempts) {
        (0, _) => format!("next attempt at {at} UTC"),
        (tried, 0) => format!("attempt {tried} failed, next attempt at {at} UTC"),
        (tried, most) => format!("attempt {tried} of {most} failed, next attempt at {at} UTC"),
    })
}

/// Whether there is something that the person can do.
fn asks_for_something(c: &Condition) -> bool {
    !c.next_action.is_empty() && !c.next_action.starts_with("none needed")
}

fn tasks() -> Tasks {
    Tasks::new().0
}

fn watch_task(gateway: &Gateway, tasks: &Tasks, task_id: &str) -> Consumer<TaskItem> {
    let (client, task_id) = (gateway.task(), task_id.to_owned());
    Consumer::start(tasks, Env::system(), ConsumerConfig::new("task"), move |options| {
        let (mut client, task_id) = (client.clone(), task_id.clone());
        async move {
            Ok(client.watch_task(WatchTaskRequest { options: Some(options), task_id }).await?.into_inner())
        }
    })
}

fn watch_session(
    gateway: &Gateway,
    tasks: &Tasks,
    session_id: &str,
    after_offset: i64,
) -> Consumer<SessionItem> {
    let (client, session_id) = (gateway.task(), session_id.to_owned());
    Consumer::start(tasks, Env::system(), ConsumerConfig::new("session"), move |options| {
        let (mut client, session_id) = (client.clone(), session_id.clone());
        async move {
            let request = WatchSessionRequest { options: Some(options), session_id, after_offset };
            Ok(client.watch_session(request).await?.into_inner())
        }
    })
}

/// The current state of a session.
pub async fn session(gateway: &Gateway, session_id: &str) -> Result<Session, Failure> {
    let tasks = tasks();
    let mut watch = watch_session(gateway, &tasks, session_id, i64::MAX);
    let (mut state, mut patience) = (State::default(), Patience::default());
    loop {
        let event = watch.next().await?;
        patience.saw(&event, Instant::now())?;
        state.apply(&event);
        if let Some(SessionItem { item: Some(session_item::Item::Session(session)) }) =
            state.get(&format!("session/{session_id}"))
        {
            return Ok(session.clone());
        }
    }
}

/// For so long a command that waits for something tries to reach a mesh that is gone, for example until it is started again.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a command has waited for a mesh that does not answer.
#[derive(Default)]
struct Patience(Option<Instant>);

impl Patience {
    /// Reports a lost connection on standard error.
    ///
    /// # Errors
    /// When the mesh has not answered for as long as a command waits (exit code as for a call that does not reach it).
    fn saw<T>(&mut self, event: &Event<T>, now: Instant) -> Result<(), Failure> {
        tell_connection(event);
        match event {
            Event::Snapshot { .. } | Event::Delta { .. } | Event::CaughtUp { .. } => self.0 = None,
            Event::Disconnected { status, .. } => {
                let since = *self.0.get_or_insert(now);
                if now.duration_since(since) >= PATIENCE {
                    let mut failure = Failure::from(status.clone());
                    let waited = PATIENCE.as_secs();
                    failure.message =
                        format!("gave up after {waited} s without an answer: {}", failure.message);
                    return Err(failure);
                }
            }
            Event::Connected { .. } | Event::Reset { .. } | Event::AuthExpiring { .. } => {}
        }
        Ok(())
    }
}

/// Reports a lost connection on standard error.
fn tell_connection<T>(event: &Event<T>) {
    if let Event::Disconnected { status, retry_in } = event {
        eprintln!("connection lost ({}); retrying in {:.1} s", status.message(), retry_in.as_secs_f32());
    }
}

/// Ends on Ctrl-C, and when the mesh does not come back, with a message about what continues to run.
async fn until_interrupted<F>(what: &str, follow: F) -> Result<ExitCode, Failure>
where
    F: Future<Output = Result<ExitCode, Failure>>,
{
    tokio::select! {
        result = follow => {
            if result.as_ref().is_err_and(|failure| failure.code == 5) {
                eprintln!("once the mesh is back, {what}");
            }
            result
        }
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\ndetached; {what}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_watch::Position;

    use super::*;

    #[test]
    fn a_mesh_that_does_not_come_back_ends_a_wait_and_one_that_does_not() {
        let gone = || Event::<()>::Disconnected {
            status: tonic::Status::unavailable("connection refused"),
            retry_in: Duration::from_secs(1),
        };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::default();
        assert!(patience.saw(&gone(), at(0)).is_ok() && patience.saw(&gone(), at(119)).is_ok());
        // A stream that opens and brings nothing is no answer.
        let opened = Event::<()>::Connected { server: "x".into(), resumed: true };
        assert!(patience.saw(&opened, at(119)).is_ok());
        let failure = patience.saw(&gone(), at(120)).unwrap_err();
        assert!(failure.message.contains("120 s") && failure.code == 5, "{failure:?}");
        let back = Event::<()>::CaughtUp { position: Position::default() };
        assert!(patience.saw(&back, at(121)).is_ok() && patience.saw(&gone(), at(500)).is_ok());
    }

    #[test]
    fn a_failed_attempt_is_shown_with_the_time_of_the_next() {
        let next_attempt_time = Some(prost_types::Timestamp { seconds: 1_764_070_696, nanos: 5 });
        let failed = Condition { attempt: 3, max_attempts: 10, next_attempt_time, ..Condition::default() };
        assert_eq!(
            next_attempt(&failed).unwrap(),
            "attempt 3 of 10 failed, next attempt at 2025-11-25 11:38:16 UTC"
        );
        let quota = Condition { attempt: 0, max_attempts: 0, ..failed };
        assert_eq!(next_attempt(&quota).unwrap(), "next attempt at 2025-11-25 11:38:16 UTC");
        assert_eq!(next_attempt(&Condition::default()), None);
    }

    #[test]
    fn a_condition_that_needs_nothing_of_a_person_has_no_next_step() {
        let asks = |text: &str| {
            asks_for_something(&Condition { next_action: text.to_owned(), ..Condition::default() })
        };
        assert!(asks("resume the queue or send a message"));
        assert!(!asks("") && !asks("none needed") && !asks("none needed: it is retried at the time shown"));
    }
}
