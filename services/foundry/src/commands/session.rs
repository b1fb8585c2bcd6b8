//! `foundry session`: sessions of a task, their queues and conversations.

mod options;

use std::path::PathBuf;
use std::process::ExitCode;

use foundry_proto::common::v1::PermissionOption;
use foundry_proto::task::v1::{
    CreateSessionRequest, GetTaskRequest, ListTranscriptRequest, RespondToPermissionRequest,
    ResumeQueueRequest, ResumeQueueResponse, SendMessageRequest, StopTurnRequest, StopTurnResponse, Task,
    TaskState,
};

pub(super) use options::describe;

use crate::cli::{Output, Session};
use crate::client::{Gateway, request_id};
use crate::commands::{attachment, checks, follow, text_or_stdin};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: Session) -> Result<ExitCode, Failure> {
    match command {
        Session::Create { task_id, name, agent, profile, settings } => {
            check(gateway, &task_id, (&agent, &profile), &settings.model).await?;
            let request = CreateSessionRequest {
                request_id: request_id(),
                task_id,
                name,
                agent,
                profile,
                permission_policy: 0,
                settings: settings.to_proto(),
            };
            let answer = gateway.task().create_session(request).await?.into_inner();
            output::one(output, &answer.session.unwrap_or_default(), |s| output::line(&s.session_id))?;
        }
        Session::Send { session_id, text, attach, detach } => {
            return send(gateway, output, session_id, text, &attach, detach).await;
        }
        Session::Show { session_id } => options::show(gateway, output, &session_id).await?,
        Session::Set { session_id, option, value } => {
            options::set(gateway, output, session_id, option, value).await?;
        }
        Session::Fill { session_id, fields, decline } => {
            options::fill(gateway, output, session_id, &fields, decline).await?;
        }
        Session::Answer { session_id, option } => answer(gateway, output, session_id, &option).await?,
        Session::Watch { session_id, from } => {
            let after = first_offset(gateway, &session_id, from).await?;
            return follow::conversation(gateway, output, &session_id, after, follow::Until::Closed).await;
        }
        Session::Stop { session_id } => {
            let request = StopTurnRequest { request_id: request_id(), session_id };
            let answer = gateway.task().stop_turn(request).await?.into_inner();
            output::one(output, &answer, |answer| output::line(&stopped(answer)))?;
        }
        Session::Resume { session_id } => {
            let request = ResumeQueueRequest { request_id: request_id(), session_id };
            let answer = gateway.task().resume_queue(request).await?.into_inner();
            output::one(output, &answer, |answer| output::line(&resumed(answer)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a stop has done.
fn stopped(answer: &StopTurnResponse) -> String {
    match answer.session.as_ref().map_or(0, |s| s.queue_length) {
        _ if answer.stopping => "stopping".to_owned(),
        0 => "nothing to stop: no turn is running".to_owned(),
        waiting => {
            format!("no turn is running; the queue is paused ({})", foundry_core::counted(waiting, "message"))
        }
    }
}

/// What a resumption has done.
fn resumed(answer: &ResumeQueueResponse) -> String {
    match answer.session.as_ref().map_or(0, |s| s.queue_length) {
        _ if !answer.resumed => "nothing to resume: the queue is not paused".to_owned(),
        0 => "resumed; no message is queued".to_owned(),
        _ => "resumed".to_owned(),
    }
}

/// Refuses what a new session of a task cannot use.
async fn check(
    gateway: &Gateway,
    task_id: &str,
    (agent, profile): (&str, &str),
    model: &str,
) -> Result<(), Failure> {
    if agent.is_empty() && profile.is_empty() && model.is_empty() {
        return Ok(());
    }
    let request = GetTaskRequest { task_id: task_id.to_owned() };
    let task = gateway.task().get_task(request).await?.into_inner().task.unwrap_or_default();
    // Not in the catalogue while the task has no agent yet: then the model is not checked.
    let wanted = checks::Wanted { agent, profile, model, otherwise: Some(&task.agent) };
    checks::agent(gateway, &task.organization_id, &wanted).await
}

async fn send(
    gateway: &Gateway,
    output: Output,
    session_id: String,
    text: String,
    attach: &[PathBuf],
    detach: bool,
) -> Result<ExitCode, Failure> {
    let last = transcript_end(gateway, &session_id).await?;
    let attachment_ids = match attach {
        [] => Vec::new(),
        files => {
            // Files must belong to the session's organization, which may differ from the caller's default.
            let organization = follow::session(gateway, &session_id).await?.organization_id;
            attachment::put_all(gateway, &organization, files).await?
        }
    };
    let request = SendMessageRequest {
        request_id: request_id(),
        session_id: session_id.clone(),
        text: text_or_stdin(text)?,
        attachment_ids,
    };
    let message = gateway.task().send_message(request).await?.into_inner().message.unwrap_or_default();
    if detach {
        output::one(output, &message, |m| output::line(&m.message_id))?;
        return Ok(ExitCode::SUCCESS);
    }
    let task_id = follow::session(gateway, &session_id).await?.task_id;
    let task =
        gateway.task().get_task(GetTaskRequest { task_id }).await?.into_inner().task.unwrap_or_default();
    if let Some(failure) = queued_in_failed(&task) {
        return Err(failure);
    }
    follow::message(gateway, output, &task.task_id, (&session_id, last), message.message_id).await
}

/// In a failed task nothing is delivered before somebody retries it.
pub(super) fn queued_in_failed(task: &Task) -> Option<Failure> {
    if task.state() != TaskState::Error {
        return None;
    }
    let condition = task.condition.clone().unwrap_or_default();
    let why = format!("{} ({})", condition.message, condition.reason);
    let failure = Failure::new(format!("the message is queued, but the task has failed: {why}"));
    Some(match condition.retryable {
        true => failure.next(format!("deliver it with `foundry task retry {}`", task.task_id)).exit(6),
        false => failure.next(condition.next_action).exit(6),
    })
}

async fn answer(gateway: &Gateway, output: Output, session_id: String, wanted: &str) -> Result<(), Failure> {
    let session = follow::session(gateway, &session_id).await?;
    let pending = session.pending_permission.ok_or_else(|| {
        Failure::new("the session has no pending permission request")
            .next("watch it with `foundry session watch`")
    })?;
    let option_id = if wanted == "cancel" {
        String::new()
    } else {
        chosen(&pending.options, wanted).map(|o| o.option_id.clone()).ok_or_else(|| {
            let known: Vec<_> = pending.options.iter().map(|o| o.option_id.as_str()).collect();
            Failure::new(format!("unknown option {wanted:?}"))
                .next(format!("choose one of: {}, cancel", known.join(", ")))
                .exit(2)
        })?
    };
    let request = RespondToPermissionRequest {
        request_id: request_id(),
        session_id,
        permission_id: pending.permission_id,
        option_id,
    };
    let answer = gateway.task().respond_to_permission(request).await?.into_inner();
    output::one(output, &answer, |_| output::line("answered"))
}

/// Finds the option with exactly this id, else the first whose kind or name begins with the text. Options that apply
/// once come before those that apply always.
fn chosen<'a>(options: &'a [PermissionOption], wanted: &str) -> Option<&'a PermissionOption> {
    // Every name begins with nothing: an unset variable of a script must not grant anything.
    if wanted.trim().is_empty() {
        return None;
    }
    if let Some(exact) = options.iter().find(|o| o.option_id == wanted) {
        return Some(exact);
    }
    let wanted = wanted.trim().to_lowercase();
    let begins =
        |o: &&PermissionOption| o.kind.starts_with(&wanted) || o.name.to_lowercase().starts_with(&wanted);
    let once = options.iter().filter(begins).find(|o| !o.kind.ends_with("_always"));
    once.or_else(|| options.iter().find(begins))
}

/// Offset of the newest transcript entry.
async fn transcript_end(gateway: &Gateway, session_id: &str) -> Result<i64, Failure> {
    let request = ListTranscriptRequest { session_id: session_id.to_owned(), from_offset: -1, page_size: 1 };
    Ok(gateway.task().list_transcript(request).await?.into_inner().last_offset)
}

/// The offset after which to show entries; a negative `from` counts from the end.
async fn first_offset(gateway: &Gateway, session_id: &str, from: i64) -> Result<i64, Failure> {
    if from >= 0 {
        Ok((from - 1).max(0))
    } else {
        Ok((transcript_end(gateway, session_id).await? + from).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_an_option_by_its_id_or_first_letters_and_nothing_names_none() {
        let option = |id: &str, kind: &str, name: &str| PermissionOption {
            option_id: id.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        let options = [
            option("1", "allow_always", "Always"),
            option("2", "allow_once", "Allow"),
            option("3", "reject_once", "No"),
        ];
        let chosen = |wanted| chosen(&options, wanted).map(|o| o.option_id.as_str());
        assert_eq!(["2", "1", "allow", "no", "rej"].map(chosen), ["2", "1", "2", "3", "3"].map(Some));
        assert_eq!(["", " ", "\n", "maybe"].map(chosen), [None; 4]);
    }

    #[test]
    fn a_stop_or_a_resumption_with_nothing_to_do_says_so() {
        use foundry_proto::task::v1::Session;

        let session = |queue_length| Some(Session { queue_length, ..Session::default() });
        let stop = |stopping, waiting| {
            stopped(&StopTurnResponse { session: session(waiting), stopping, ..Default::default() })
        };
        assert_eq!(stop(true, 2), "stopping");
        assert_eq!(stop(false, 0), "nothing to stop: no turn is running");
        assert_eq!(stop(false, 1), "no turn is running; the queue is paused (1 message)");
        let resume = |did, waiting| {
            resumed(&ResumeQueueResponse { session: session(waiting), resumed: did, ..Default::default() })
        };
        assert_eq!(resume(false, 1), "nothing to resume: the queue is not paused");
        assert_eq!(resume(true, 0), "resumed; no message is queued");
        assert_eq!(resume(true, 1), "resumed");
    }

    #[test]
    fn a_message_to_a_failed_task_is_not_waited_for() {
        use foundry_proto::common::v1::Condition;

        let condition =
            Condition { reason: "SANDBOX_DESTROYED".into(), retryable: true, ..Condition::default() };
        let task = |state: TaskState| Task {
            task_id: "task_1".into(),
            state: state.into(),
            condition: Some(condition.clone()),
            ..Task::default()
        };
        assert!(queued_in_failed(&task(TaskState::Idle)).is_none());
        let failure = queued_in_failed(&task(TaskState::Error)).unwrap();
        assert!(failure.message.contains("SANDBOX_DESTROYED") && failure.code == 6);
        assert!(failure.next_action.contains("foundry task retry"), "{failure:?}");
        let lost = Condition { next_action: "kill the task".into(), retryable: false, ..condition.clone() };
        let lost = Task { condition: Some(lost), ..task(TaskState::Error) };
        assert_eq!(queued_in_failed(&lost).unwrap().next_action, "kill the task");
    }
}
