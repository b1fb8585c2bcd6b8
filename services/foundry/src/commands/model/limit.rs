//! `foundry model limit` and `foundry model usage`: limits on the use of models, and the actual use.

use foundry_proto::provisioner::v1::{
    ListModelLimitsRequest, ListModelUsageRequest, ModelLimit as Limit, ModelLimitScope, ModelLimitUnit,
    SetModelLimitRequest,
};
use foundry_proto::task::v1::{GetTaskRequest, Task};

use super::{all, decimal, micros};
use crate::cli::Output;
use crate::cli::models::{LimitOf, LimitUnit, ModelLimit};
use crate::client::{Gateway, request_id};
use crate::failure::Failure;
use crate::output;

/// Runs one command of the group.
pub async fn run(gateway: &Gateway, output: Output, command: ModelLimit) -> Result<(), Failure> {
    match command {
        ModelLimit::List { task } => list(gateway, output, task).await,
        ModelLimit::Set { unit, amount, of } => {
            let maximum = maximum(unit, &amount)?;
            set(gateway, output, unit, &of, maximum).await
        }
        ModelLimit::Remove { unit, of } => set(gateway, output, unit, &of, 0).await,
    }
}

fn maximum(unit: LimitUnit, amount: &str) -> Result<i64, Failure> {
    let found = match unit {
        LimitUnit::Tokens => amount.parse().ok(),
        LimitUnit::Usd => micros(amount),
    };
    found.filter(|n| *n > 0).ok_or_else(|| {
        Failure::new(format!(
            "invalid amount {amount}: expected a whole number of tokens, or dollars such as 12.50"
        ))
        .exit(2)
    })
}

async fn set(
    gateway: &Gateway,
    output: Output,
    unit: LimitUnit,
    of: &LimitOf,
    maximum: i64,
) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    if maximum > 0 && !of.task.is_empty() {
        let found = gateway.task().get_task(GetTaskRequest { task_id: of.task.clone() }).await?.into_inner();
        check_task(&found.task.unwrap_or_default(), &organization_id)?;
    }
    let tasks = of.each_task || !of.task.is_empty();
    let scope = if tasks { ModelLimitScope::Task } else { ModelLimitScope::Organization };
    let unit = match unit {
        LimitUnit::Tokens => ModelLimitUnit::Tokens,
        LimitUnit::Usd => ModelLimitUnit::Micros,
    };
    let request = SetModelLimitRequest {
        request_id: request_id(),
        organization_id,
        scope: scope.into(),
        task_id: of.task.clone(),
        unit: unit.into(),
        maximum,
    };
    let answer = gateway.profiles().set_model_limit(request).await?.into_inner();
    output::one(output, &answer, |answer| match &answer.limit {
        Some(limit) => output::line(&words(limit)),
        None => output::line("removed"),
    })
}

/// Refuses a task of another organization, whose calls the limit would not count. The service that keeps the limits does
/// not know all tasks.
fn check_task(task: &Task, organization_id: &str) -> Result<(), Failure> {
    if task.organization_id == organization_id {
        return Ok(());
    }
    Err(Failure::new(format!("task {} belongs to another organization", task.task_id))
        .next("select it with --organization")
        .exit(4))
}

async fn list(gateway: &Gateway, output: Output, task_id: String) -> Result<(), Failure> {
    let limits = limits(gateway, task_id).await?;
    if output == Output::Json {
        return limits.iter().try_for_each(|l| output::json(l).map(|text| output::line(&text)));
    }
    let rows = limits.iter().map(|l| {
        let used = if is_of_each_task(l) { "-".to_owned() } else { amount(l, l.used) };
        vec![whose(l), amount(l, l.maximum), used, output::time(l.reset_time.as_ref())]
    });
    output::table(&["scope", "limit", "used", "resets"], rows.collect());
    Ok(())
}

async fn limits(gateway: &Gateway, task_id: String) -> Result<Vec<Limit>, Failure> {
    let request = ListModelLimitsRequest { organization_id: gateway.organization().await?, task_id };
    Ok(gateway.profiles().list_model_limits(request).await?.into_inner().limits)
}

/// Prints the use of models with a sum, and the limits that apply.
///
/// # Errors
/// The service's error.
pub async fn usage(gateway: &Gateway, output: Output, task_id: String) -> Result<(), Failure> {
    let organization_id = gateway.organization().await?;
    let request = ListModelUsageRequest { organization_id, task_id: task_id.clone() };
    let answer = gateway.profiles().list_model_usage(request).await?.into_inner();
    if output == Output::Json {
        return answer.usage.iter().try_for_each(|u| output::json(u).map(|text| output::line(&text)));
    }
    let providers = all(gateway).await?;
    let name = |id: &str| {
        let found = providers.iter().find(|p| p.model_provider_id == id);
        found.map_or_else(|| id.to_owned(), |p| p.name.clone())
    };
    let (mut tokens, mut cost) = (0, 0);
    let mut rows = Vec::new();
    for used in &answer.usage {
        let cached = used.cache_read_tokens + used.cache_write_tokens;
        tokens += used.input_tokens + used.output_tokens + cached;
        cost += used.cost_micros;
        let of = if used.session_id.is_empty() { "all" } else { &used.session_id };
        rows.push(vec![
            of.to_owned(),
            name(&used.model_provider_id),
            output::inert(&used.model),
            match used.estimated_calls {
                0 => used.calls.to_string(),
                some => format!("{} ({some} estimated)", used.calls),
            },
            used.input_tokens.to_string(),
            used.output_tokens.to_string(),
            cached.to_string(),
            decimal(used.cost_micros),
        ]);
    }
    output::table(&["session", "provider", "model", "calls", "input", "output", "cached", "usd"], rows);
    output::line(&format!("{tokens} tokens, {} USD where prices are known", decimal(cost)));
    for limit in limits(gateway, task_id).await?.iter().filter(|l| !is_of_each_task(l) || l.used > 0) {
        output::line(&words(limit));
    }
    Ok(())
}

fn is_of_each_task(limit: &Limit) -> bool {
    limit.scope() == ModelLimitScope::Task && limit.task_id.is_empty()
}

fn whose(limit: &Limit) -> String {
    match limit.scope() {
        ModelLimitScope::Organization => "organization, per month".to_owned(),
        _ if limit.task_id.is_empty() => "each task".to_owned(),
        _ => format!("task {}", limit.task_id),
    }
}

fn amount(limit: &Limit, number: i64) -> String {
    match limit.unit() {
        ModelLimitUnit::Micros => format!("{} USD", decimal(number)),
        _ => format!("{number} tokens"),
    }
}

fn words(limit: &Limit) -> String {
    format!(
        "limit for {}: {}, {} used",
        whose(limit),
        amount(limit, limit.maximum),
        amount(limit, limit.used)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_of_another_organization_gets_no_limit() {
        let task = Task { task_id: "task_1".into(), organization_id: "org_1".into(), ..Task::default() };
        assert!(check_task(&task, "org_1").is_ok());
        let refused = check_task(&task, "org_2").unwrap_err();
        assert!(refused.message.contains("another organization") && refused.code == 4);
    }

    #[test]
    fn reads_tokens_and_dollars_and_nothing_else() {
        assert_eq!(maximum(LimitUnit::Tokens, "250000").ok(), Some(250_000));
        assert_eq!(maximum(LimitUnit::Usd, "12.50").ok(), Some(12_500_000));
        for (unit, bad) in [
            (LimitUnit::Tokens, "1.5"),
            (LimitUnit::Tokens, "0"),
            (LimitUnit::Tokens, "-3"),
            (LimitUnit::Usd, "$5"),
            (LimitUnit::Usd, "0.0"),
        ] {
            assert!(maximum(unit, bad).is_err(), "{bad}");
        }
    }
}
