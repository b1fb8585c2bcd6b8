//! Limits on the use of models.

use foundry_core::{Error, Timestamp};
use foundry_proto::provisioner::v1::{self as proto, ModelLimitScope, ModelLimitUnit};

/// What a limit applies to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitOf {
    /// An organization, in each calendar month (UTC).
    Organization,
    /// Each task that has no limit of its own.
    EachTask,
    /// One task, from its beginning on.
    Task(String),
}

impl LimitOf {
    /// The stored scope and task.
    pub fn as_str(&self) -> (&'static str, &str) {
        match self {
            Self::Organization => ("organization", ""),
            Self::EachTask => ("task", ""),
            Self::Task(id) => ("task", id),
        }
    }

    /// From the stored texts.
    pub fn parse(scope: &str, task: &str) -> Self {
        match (scope, task) {
            ("organization", _) => Self::Organization,
            (_, "") => Self::EachTask,
            (_, task) => Self::Task(task.to_owned()),
        }
    }

    /// As on the wire.
    pub fn to_proto(&self) -> (ModelLimitScope, String) {
        let scope = match self {
            Self::Organization => ModelLimitScope::Organization,
            Self::EachTask | Self::Task(_) => ModelLimitScope::Task,
        };
        (scope, self.as_str().1.to_owned())
    }
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Tokens, in and out, cached ones too.
    Tokens,
    /// Millionths of a US dollar, as far as prices are known.
    Micros,
}

impl Unit {
    /// The stored text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Micros => "micros",
        }
    }

    /// From the stored text.
    pub fn parse(text: &str) -> Self {
        if text == "tokens" { Self::Tokens } else { Self::Micros }
    }

    /// From the wire.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for one that is not set or not known.
    pub fn of(unit: i32) -> Result<Self, Error> {
        match ModelLimitUnit::try_from(unit) {
            Ok(ModelLimitUnit::Tokens) => Ok(Self::Tokens),
            Ok(ModelLimitUnit::Micros) => Ok(Self::Micros),
            _ => Err(Error::invalid_field("unit", "must be TOKENS or MICROS")),
        }
    }

    /// As on the wire.
    pub const fn to_proto(self) -> ModelLimitUnit {
        match self {
            Self::Tokens => ModelLimitUnit::Tokens,
            Self::Micros => ModelLimitUnit::Micros,
        }
    }
}

/// A limit on the use of models: what it applies to, what it counts, and the maximum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelLimit {
    /// What it applies to.
    pub of: LimitOf,
    /// What it counts.
    pub unit: Unit,
    /// The maximum, counted in `unit`.
    pub maximum: i64,
}

impl ModelLimit {
    /// As people see it, with how much of it is used.
    pub fn to_proto(&self, used: i64, now: Timestamp) -> proto::ModelLimit {
        let (scope, task_id) = self.of.to_proto();
        proto::ModelLimit {
            scope: scope.into(),
            task_id,
            unit: self.unit.to_proto().into(),
            maximum: self.maximum,
            used,
            reset_time: if self.of == LimitOf::Organization { next_month(now) } else { None },
        }
    }
}

/// The limits that count for a task among those that may concern it: its own in place of that of each task.
pub fn effective(all: Vec<ModelLimit>) -> Vec<ModelLimit> {
    let own: Vec<Unit> = all.iter().filter(|l| matches!(l.of, LimitOf::Task(_))).map(|l| l.unit).collect();
    all.into_iter().filter(|l| l.of != LimitOf::EachTask || !own.contains(&l.unit)).collect()
}

/// The calendar month of a time (UTC), as `2026-01`.
pub fn month(at: Timestamp) -> String {
    at.to_string().chars().take(7).collect()
}

/// When the month after that of the given time begins (UTC).
pub fn next_month(at: Timestamp) -> Option<prost_types::Timestamp> {
    let month = month(at);
    let (year, number) = month.split_once('-')?;
    let (year, number): (u32, u32) = (year.parse().ok()?, number.parse().ok()?);
    let (year, number) = if number == 12 { (year + 1, 1) } else { (year, number + 1) };
    format!("{year:04}-{number:02}-01T00:00:00Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_utc_and_end_at_midnight() {
        let at = |text: &str| Timestamp::from_proto(&text.parse().unwrap());
        assert_eq!(month(at("2026-01-31T23:59:59.5Z")), "2026-01");
        let next = |text: &str| Timestamp::from_proto(&next_month(at(text)).unwrap());
        assert_eq!(next("2026-01-31T23:59:59Z"), at("2026-02-01T00:00:00Z"));
        assert_eq!(next("2026-12-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    }

    #[test]
    fn a_limit_of_the_task_stands_in_for_that_of_each_task_in_the_same_unit() {
        let limit = |of, unit| ModelLimit { of, unit, maximum: 1 };
        let all = vec![
            limit(LimitOf::Organization, Unit::Tokens),
            limit(LimitOf::EachTask, Unit::Tokens),
            limit(LimitOf::EachTask, Unit::Micros),
            limit(LimitOf::Task("t".to_owned()), Unit::Tokens),
        ];
        let mut expected = all.clone();
        expected.remove(1);
        assert_eq!(effective(all), expected);
    }
}
