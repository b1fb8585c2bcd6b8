//! `foundry task fix`: what fails at a task's pull request, sent to the agent at once or by a rule of the task.

use foundry_proto::task::v1::{AutoFix, FixSubject, RequestFixRequest, SetAutoFixRequest};

use crate::cli::Output;
use crate::cli::publish::FixTask;
use crate::client::{Gateway, request_id};
use crate::failure::Failure;
use crate::output;

/// Switches the rule if that is asked for, and otherwise sends what has failed.
///
/// # Errors
/// The service's error; `NOTHING_TO_FIX` when nothing has failed.
pub async fn run(gateway: &Gateway, output: Output, args: FixTask) -> Result<(), Failure> {
    if args.auto.is_some() || args.off {
        let request = SetAutoFixRequest {
            request_id: request_id(),
            task_id: args.task_id,
            enabled: !args.off,
            max_tries: args.auto.unwrap_or_default(),
        };
        let task = gateway.task().set_auto_fix(request).await?.into_inner().task.unwrap_or_default();
        return output::one(output, &task, |task| {
            output::line(&words(&task.auto_fix.clone().unwrap_or_default()));
        });
    }
    let subject = match (args.checks, args.review) {
        (true, _) => FixSubject::Checks,
        (_, true) => FixSubject::Review,
        _ => FixSubject::Unspecified,
    };
    let request = RequestFixRequest {
        request_id: request_id(),
        task_id: args.task_id,
        session_id: args.session.unwrap_or_default(),
        subject: subject.into(),
    };
    let message = gateway.task().request_fix(request).await?.into_inner().message.unwrap_or_default();
    output::one(output, &message, |message| {
        output::line("queued for the agent:");
        message.text_preview.lines().for_each(|line| output::line(&format!("  {}", output::inert(line))));
    })
}

/// How the rule of a task stands.
pub fn words(rule: &AutoFix) -> String {
    if !rule.enabled {
        return "off: failures at the pull request are sent to the agent by `foundry task fix` alone"
            .to_owned();
    }
    let count = format!("{} of {} messages sent", rule.tries, rule.max_tries);
    match (&rule.stopped, &rule.waiting) {
        (Some(why), _) => format!("stopped, {count}: {} ({}); {}", why.message, why.reason, why.next_action),
        (None, Some(why)) => {
            let next = Some(&why.next_action).filter(|next| !next.starts_with("none needed"));
            let next = next.map(|next| format!("; {next}")).unwrap_or_default();
            format!("on, {count}; waiting for {}: {}{next}", why.waiting_on, why.message)
        }
        (None, None) => format!("on, {count}"),
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::Condition;

    use super::*;

    #[test]
    fn the_rule_is_shown_with_its_count_and_why_it_has_stopped() {
        let on = AutoFix { enabled: true, tries: 1, max_tries: 3, ..AutoFix::default() };
        assert_eq!(words(&on), "on, 1 of 3 messages sent");
        let waiting = Condition {
            waiting_on: "a check".into(),
            message: "1 check has not ended".into(),
            next_action: "none needed: it goes on by itself".into(),
            ..Condition::default()
        };
        let text = "on, 1 of 3 messages sent; waiting for a check: 1 check has not ended";
        assert_eq!(words(&AutoFix { waiting: Some(waiting), ..on.clone() }), text);
        let why = Condition {
            reason: "AUTO_FIX_LIMIT".into(),
            message: "it still fails".into(),
            next_action: "look at it".into(),
            ..Condition::default()
        };
        let stopped = AutoFix { stopped: Some(why), ..on };
        let text = "stopped, 1 of 3 messages sent: it still fails (AUTO_FIX_LIMIT); look at it";
        assert_eq!(words(&stopped), text);
        assert!(words(&AutoFix::default()).starts_with("off"));
    }
}
