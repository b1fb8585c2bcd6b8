//! A session's options, and the forms of its agent.

use foundry_proto::common::v1::{
    AgentOption, AgentUsage, ElicitationAction, ElicitationField, ElicitationFieldKind, ElicitationRequest,
    ElicitationValue,
};
use foundry_proto::task::v1::{RespondToElicitationRequest, Session, SetSessionOptionRequest};

use crate::cli::Output;
use crate::client::{Gateway, request_id};
use crate::commands::follow;
use crate::failure::Failure;
use crate::output;

/// Prints a session with its options.
pub(super) async fn show(gateway: &Gateway, output: Output, session_id: &str) -> Result<(), Failure> {
    let session = follow::session(gateway, session_id).await?;
    output::one(output, &session, print)
}

fn print(session: &Session) {
    output::line(&format!("{}  {}", session.session_id, output::inert(&session.name)));
    if !session.agent_title.is_empty() {
        output::line(&format!("  title   {}", output::inert(&session.agent_title)));
    }
    output::line(&format!("  state   {}", output::state(session.state().as_str_name(), "SESSION_STATE_")));
    follow::print_condition(session.condition.as_ref());
    if let Some(queue) = queue(session) {
        output::line(&format!("  queue   {queue}"));
    }
    output::line(&format!("  agent   {}", session.agent));
    if !session.profile.is_empty() {
        output::line(&format!("  profile {}", session.profile));
    }
    if let Some(usage) = &session.usage {
        output::line(&format!("  context {}", in_words(usage)));
    }
    let Some(options) = &session.options else {
        output::line("  the agent has not reported its options yet");
        return;
    };
    let rows = options
        .options
        .iter()
        .map(|o| vec![format!("  {}", o.option_id), o.name.clone(), o.value.clone(), becomes(o), values(o)]);
    output::table(&["  option", "name", "value", "requested", "choices"], rows.collect());
    if !options.commands.is_empty() {
        let rows = options.commands.iter().map(|c| {
            let call = format!("  /{} {}", c.name, c.hint);
            vec![call.trim_end().to_owned(), c.description.clone()]
        });
        output::table(&["  command", "what it does"], rows.collect());
    }
    if options.truncated {
        output::line("  the list is truncated; the agent offers more");
    }
}

/// How many messages wait, and whether something else than the running turn keeps them; none for an open, empty queue.
fn queue(session: &Session) -> Option<String> {
    let waits = foundry_core::counted(session.queue_length, "message");
    match (session.queue_length, session.queue_held) {
        (0, false) => None,
        (_, false) => Some(waits),
        (_, true) => Some(format!("{waits}, paused; `foundry session resume {}`", session.session_id)),
    }
}

/// The value that an option is being changed to, and why the change is not in effect yet.
fn becomes(option: &AgentOption) -> String {
    match &option.condition {
        Some(c) if !c.reason.is_empty() => format!("{}: {} {}", option.wanted, c.reason, c.message),
        Some(c) => format!("{} (waiting for {})", option.wanted, c.waiting_on),
        None => option.wanted.clone(),
    }
}

fn values(option: &AgentOption) -> String {
    let mut values: Vec<&str> = option.choices.iter().map(|c| c.value.as_str()).collect();
    if option.truncated {
        values.push("…");
    }
    values.join(", ")
}

/// Context use and cost as text.
fn in_words(usage: &AgentUsage) -> String {
    let of = match usage.size {
        0 => format!("{} tokens", usage.used),
        size => format!("{} of {size} tokens ({} %)", usage.used, usage.used.saturating_mul(100) / size),
    };
    match usage.currency.as_str() {
        "" => of,
        currency => {
            let (whole, rest) = (usage.cost_micros / 1_000_000, usage.cost_micros % 1_000_000);
            format!("{of}, {whole}.{:04} {currency}", rest / 100)
        }
    }
}

/// Sets an option of a session.
pub(super) async fn set(
    gateway: &Gateway,
    output: Output,
    session_id: String,
    option_id: String,
    value: String,
) -> Result<(), Failure> {
    let request = SetSessionOptionRequest { request_id: request_id(), session_id, option_id, value };
    let answer = gateway.task().set_session_option(request).await?.into_inner();
    output::one(output, &answer, |_| output::line("saved; it is applied in the background"))
}

/// Answers or declines the pending form.
pub(super) async fn fill(
    gateway: &Gateway,
    output: Output,
    session_id: String,
    fields: &[String],
    decline: bool,
) -> Result<(), Failure> {
    let session = follow::session(gateway, &session_id).await?;
    let form = session.pending_elicitation.ok_or_else(|| {
        Failure::new("the session has no pending form").next("watch it with `foundry session watch`")
    })?;
    let (action, values) = match decline {
        true => (ElicitationAction::Decline, Vec::new()),
        false => (ElicitationAction::Accept, filled(&form, fields)?),
    };
    let request = RespondToElicitationRequest {
        request_id: request_id(),
        session_id,
        elicitation_id: form.elicitation_id,
        action: action.into(),
        values,
    };
    let answer = gateway.task().respond_to_elicitation(request).await?.into_inner();
    output::one(output, &answer, |_| output::line("answered"))
}

/// Combines the given fields with the form's default values.
fn filled(form: &ElicitationRequest, given: &[String]) -> Result<Vec<ElicitationValue>, Failure> {
    let mut values: Vec<ElicitationValue> = Vec::new();
    for text in given {
        let unknown = || {
            let known: Vec<_> = form.fields.iter().map(describe).collect();
            Failure::new(format!("{text:?} is not FIELD=VALUE with a field of this form"))
                .next(format!("the fields are: {}", known.join(", ")))
                .exit(2)
        };
        let (name, value) = text.split_once('=').ok_or_else(unknown)?;
        if !form.fields.iter().any(|f| f.name == name) {
            return Err(unknown());
        }
        match values.iter_mut().find(|v| v.name == name) {
            Some(more) => more.values.push(value.to_owned()),
            None => values.push(ElicitationValue { name: name.to_owned(), values: vec![value.to_owned()] }),
        }
    }
    for field in form.fields.iter().filter(|f| !f.default_values.is_empty()) {
        if values.iter().all(|v| v.name != field.name) {
            values.push(ElicitationValue { name: field.name.clone(), values: field.default_values.clone() });
        }
    }
    Ok(values)
}

/// Name, type and choices of a field as short text.
pub(in crate::commands) fn describe(field: &ElicitationField) -> String {
    let kind = match field.kind() {
        ElicitationFieldKind::Number => "a number".to_owned(),
        ElicitationFieldKind::Integer => "a whole number".to_owned(),
        ElicitationFieldKind::Boolean => "true or false".to_owned(),
        ElicitationFieldKind::Choice => one_of("one of", field),
        ElicitationFieldKind::Choices => one_of("any of", field),
        _ => "text".to_owned(),
    };
    let must = if field.required { ", required" } else { "" };
    output::inert(&format!("{} ({kind}{must})", field.name))
}

fn one_of(what: &str, field: &ElicitationField) -> String {
    let values: Vec<&str> = field.choices.iter().map(|c| c.value.as_str()).collect();
    format!("{what} {}", values.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paused_queue_is_shown_with_the_command_that_resumes_it() {
        let of = |queue_length, queue_held| {
            queue(&Session { session_id: "ses_1".into(), queue_length, queue_held, ..Session::default() })
        };
        assert_eq!(of(0, false), None);
        assert_eq!(of(2, false).unwrap(), "2 messages");
        assert_eq!(of(1, true).unwrap(), "1 message, paused; `foundry session resume ses_1`");
        assert!(of(0, true).unwrap().contains("paused"));
    }

    fn form() -> ElicitationRequest {
        let field = |name: &str, default: &[&str]| ElicitationField {
            name: name.to_owned(),
            default_values: default.iter().map(|d| (*d).to_owned()).collect(),
            ..ElicitationField::default()
        };
        ElicitationRequest {
            fields: vec![field("name", &[]), field("kind", &["minor"]), field("areas", &[])],
            ..ElicitationRequest::default()
        }
    }

    #[test]
    fn fills_in_what_is_given_over_what_stands_there_at_first() {
        let given = ["name=a=b", "areas=cli", "areas=web"].map(str::to_owned);
        let values: Vec<_> =
            filled(&form(), &given).unwrap().into_iter().map(|v| (v.name, v.values.join("+"))).collect();
        let wanted = [("name", "a=b"), ("areas", "cli+web"), ("kind", "minor")];
        assert_eq!(values, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())));
        for wrong in ["name", "other=1"] {
            assert!(filled(&form(), &[wrong.to_owned()]).is_err());
        }
    }

    #[test]
    fn tells_context_and_cost_in_words() {
        let usage =
            AgentUsage { used: 53_000, size: 200_000, cost_micros: 1_045_500, currency: "USD".into() };
        assert_eq!(in_words(&usage), "53000 of 200000 tokens (26 %), 1.0455 USD");
        assert_eq!(in_words(&AgentUsage { used: 5, ..AgentUsage::default() }), "5 tokens");
    }
}
