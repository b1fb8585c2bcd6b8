//! SetModelLimit: limits the use of models, by an organization per month or by a task.

use foundry_authn::Caller;
use foundry_core::{Error, OrganizationId, Result, TaskId};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ModelLimitScope, SetModelLimitRequest, SetModelLimitResponse};
use foundry_store::{Guard, WriteSet};

use super::{Command, audit};
use crate::domain::model_limit::{LimitOf, ModelLimit, Unit};
use crate::models::limits;
use crate::shared::Shared;
use crate::store::model_limits::{self, MODEL_LIMITS};

/// Most limits of an organization.
const MAX_LIMITS: i64 = 500;
/// The largest limit; sums stay well within 64 bits.
const LARGEST: i64 = 1_000_000_000_000_000;

/// Sets a limit, or removes it.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field, `NOT_FOUND`, `RESOURCE_EXHAUSTED`.
pub async fn set_model_limit(
    shared: &Shared,
    caller: &Caller,
    request: SetModelLimitRequest,
) -> Result<SetModelLimitResponse> {
    let organization: OrganizationId = request.organization_id.parse()?;
    caller.require(&organization, Role::Admin)?;
    let limit = limit_of(&request)?;
    let body = SetModelLimitRequest { request_id: String::new(), ..request.clone() };
    let command = Command::new(shared, caller, &organization, "SetModelLimit", &request.request_id, &body)?;
    command
        .run(|| async {
            let mut ws = WriteSet::new();
            let view = if limit.maximum == 0 {
                model_limits::remove(&mut ws, &organization, &limit);
                None
            } else {
                let ours = [("organization_id", (&organization).into())];
                ws.guard(Guard::count_below(&MODEL_LIMITS, &ours, MAX_LIMITS, "model_limits"));
                model_limits::put(&mut ws, &organization, &limit);
                let used = limits::used(shared, &organization, "", &limit).await?;
                Some(limit.to_proto(used, shared.env.clock.now()))
            };
            let (scope, task) = limit.of.as_str();
            let about = format!("{scope}/{task}/{}={}", limit.unit.as_str(), limit.maximum);
            ws.audit(audit(&organization, caller, "", "model_limit.set", &about, &request.request_id));
            Ok((ws, SetModelLimitResponse { limit: view, rev: 0 }))
        })
        .await
}

fn limit_of(request: &SetModelLimitRequest) -> Result<ModelLimit> {
    let of = match (request.scope(), request.task_id.as_str()) {
        (ModelLimitScope::Organization, "") => LimitOf::Organization,
        (ModelLimitScope::Organization, _) => {
            return Err(Error::invalid_field("task_id", "must be empty for the scope ORGANIZATION"));
        }
        (ModelLimitScope::Task, "") => LimitOf::EachTask,
        (ModelLimitScope::Task, task) => LimitOf::Task(task.parse::<TaskId>()?.to_string()),
        (ModelLimitScope::Unspecified, _) => {
            return Err(Error::invalid_field("scope", "must be ORGANIZATION or TASK"));
        }
    };
    if !(0..=LARGEST).contains(&request.maximum) {
        return Err(Error::invalid_field("maximum", format!("must be 0 (no limit) to {LARGEST}")));
    }
    Ok(ModelLimit { of, unit: Unit::of(request.unit)?, maximum: request.maximum })
}
