//! Limits and their use, which the model gateway reads before each call.

use foundry_core::{Error, OrganizationId};
use foundry_model_gateway::{Limit, Unit as Counted};

use crate::domain::model_limit::{LimitOf, ModelLimit, Unit, effective, month};
use crate::shared::Shared;
use crate::store::model_totals::Total;
use crate::store::{model_limits, model_totals};

/// The limits that apply to the calls of a task, with what is used.
pub async fn of_task(
    shared: &Shared,
    organization: &OrganizationId,
    task: &str,
) -> Result<Vec<Limit>, Error> {
    let all = effective(model_limits::list(&shared.store, organization, task).await?);
    let number = |n: i64| u64::try_from(n).unwrap_or(0);
    let mut limits = Vec::with_capacity(all.len());
    for limit in all {
        let scope = match limit.of {
            LimitOf::Organization => "the organization this month (UTC)".to_owned(),
            LimitOf::EachTask | LimitOf::Task(_) => format!("task {task}"),
        };
        let used = number(used(shared, organization, task, &limit).await?);
        let unit = match limit.unit {
            Unit::Tokens => Counted::Tokens,
            Unit::Micros => Counted::Micros,
        };
        limits.push(Limit { scope, unit, used, maximum: number(limit.maximum) });
    }
    Ok(limits)
}

/// How much of a limit is used; by this task, if the limit is set per task.
pub async fn used(
    shared: &Shared,
    organization: &OrganizationId,
    task: &str,
    limit: &ModelLimit,
) -> Result<i64, Error> {
    let (month, task) = match &limit.of {
        LimitOf::Organization => (month(shared.env.clock.now()), ""),
        LimitOf::EachTask => (String::new(), task),
        LimitOf::Task(own) => (String::new(), own.as_str()),
    };
    let total = model_totals::find(&shared.store, organization, &month, task).await?.unwrap_or_default();
    Ok(of_unit(total, limit.unit))
}

fn of_unit(total: Total, unit: Unit) -> i64 {
    match unit {
        Unit::Tokens => total.tokens,
        Unit::Micros => total.cost_micros,
    }
}
