//! A write set: everything that one request changes, as data. It is committed wholly or not at
//! all, together with others (see `docs/adr/0002-write-sets-and-group-commit.md`).

use bytes::Bytes;
use foundry_core::Timestamp;

use crate::audit::AUDIT;
use crate::idempotency::IDEMPOTENCY;
use crate::shape::{Action, Conditions, Operation, Shape};
use crate::{AuditRecord, BodyHash, IdempotencyKey, RevRef, Scope, Table, Value};

pub(crate) const TOMBSTONES: Table =
    Table::new("store_tombstones", &["scope", "kind", "key", "rev", "at"], &["scope", "kind", "key"]);

/// A condition that must hold in the transaction, or nothing is written.
#[derive(Clone, Debug)]
pub struct Guard {
    pub(crate) shape: Shape,
    pub(crate) values: Vec<Value>,
    pub(crate) tag: Option<&'static str>,
}

impl Guard {
    /// At least one row with these values exists (`Null` = is null). PostgreSQL locks it for share.
    pub fn exists(table: &'static Table, conditions: &[(&'static str, Value)]) -> Self {
        Self::new(Action::Exists, table, conditions)
    }

    /// No row with these values exists.
    pub fn absent(table: &'static Table, conditions: &[(&'static str, Value)]) -> Self {
        Self::new(Action::Absent, table, conditions)
    }

    /// Fewer than `limit` rows with these values exist; `name` is the limit's name for callers.
    pub fn count_below(
        table: &'static Table,
        conditions: &[(&'static str, Value)],
        limit: i64,
        name: &'static str,
    ) -> Self {
        let mut guard = Self::new(Action::CountBelow(name), table, conditions);
        guard.values.push(Value::Int(limit));
        guard
    }

    /// Adds a tag that identifies this guard in an error.
    #[must_use]
    pub fn tagged(mut self, tag: &'static str) -> Self {
        self.tag = Some(tag);
        self
    }

    fn new(action: Action, table: &'static Table, conditions: &[(&'static str, Value)]) -> Self {
        let mut values = Vec::with_capacity(conditions.len() + 1);
        let guards = Conditions::split(conditions, &mut values);
        Self { shape: Shape { action, table, set: Vec::new(), guards }, values, tag: None }
    }
}

/// Everything that one request changes. Rows are written in the order they are added.
#[derive(Clone, Debug, Default)]
pub struct WriteSet {
    pub(crate) scopes: Vec<Scope>,
    pub(crate) guards: Vec<Operation>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) idempotency: Option<(IdempotencyKey, BodyHash)>,
    pub(crate) topics: Vec<String>,
    pub(crate) defect: Option<String>,
    /// Whether a value depends on the time of commit.
    pub(crate) timed: bool,
    audits: i64,
    last: Last,
}

#[derive(Clone, Copy, Debug, Default)]
enum Last {
    #[default]
    Nothing,
    Guard,
    Operation,
}

impl WriteSet {
    /// An empty write set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reserves one revision in a scope; a repeated call for the same scope returns the same one.
    pub fn scope(&mut self, scope: Scope) -> RevRef {
        let at = self.scopes.iter().position(|s| *s == scope).unwrap_or_else(|| {
            self.scopes.push(scope);
            self.scopes.len() - 1
        });
        // A write set never comes near four billion scopes.
        RevRef(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Inserts a row: the values of all the table's columns, in order. A taken key is a conflict.
    pub fn insert(&mut self, table: &'static Table, values: impl Into<Vec<Value>>) -> &mut Self {
        self.row(Action::Insert, table, values.into())
    }

    /// Inserts a row, or overwrites all columns outside the key where the key exists.
    pub fn upsert(&mut self, table: &'static Table, values: impl Into<Vec<Value>>) -> &mut Self {
        self.row(Action::Upsert, table, values.into())
    }

    /// Updates the one row with this key, whose guard columns must have the given values
    /// (`Null` = is null); anything else fails the write set.
    pub fn update(
        &mut self,
        table: &'static Table,
        key: &[Value],
        set: &[(&'static str, Value)],
        guards: &[(&'static str, Value)],
    ) -> &mut Self {
        let mut values: Vec<Value> = set.iter().map(|(_, v)| v.clone()).collect();
        values.extend_from_slice(key);
        self.check_key(table, key);
        if set.is_empty() || set.iter().any(|(c, _)| table.key.contains(c)) {
            self.defect(format!("update of {} sets nothing, or its key", table.name));
        }
        self.check_once(table, set);
        let guards = Conditions::split(guards, &mut values);
        let set = set.iter().map(|(c, _)| *c).collect();
        self.push(Shape { action: Action::Update, table, set, guards }, values)
    }

    /// Deletes the one row with this key and guard values; anything else fails the write set.
    pub fn delete(
        &mut self,
        table: &'static Table,
        key: &[Value],
        guards: &[(&'static str, Value)],
    ) -> &mut Self {
        self.check_key(table, key);
        let mut values = key.to_vec();
        let guards = Conditions::split(guards, &mut values);
        self.push(Shape { action: Action::Delete, table, set: Vec::new(), guards }, values)
    }

    /// Deletes the row with this key if there is one.
    pub fn remove(&mut self, table: &'static Table, key: &[Value]) -> &mut Self {
        self.check_key(table, key);
        let shape = Shape { action: Action::Remove, table, set: Vec::new(), guards: Conditions::default() };
        self.push(shape, key.to_vec())
    }

    /// Updates all rows with these values, however many.
    pub fn update_where(
        &mut self,
        table: &'static Table,
        conditions: &[(&'static str, Value)],
        set: &[(&'static str, Value)],
    ) -> &mut Self {
        let mut values: Vec<Value> = set.iter().map(|(_, v)| v.clone()).collect();
        self.check_once(table, set);
        let guards = Conditions::split(conditions, &mut values);
        let set = set.iter().map(|(c, _)| *c).collect();
        self.push(Shape { action: Action::UpdateWhere, table, set, guards }, values)
    }

    /// Deletes all rows with these values, however many.
    pub fn delete_where(&mut self, table: &'static Table, conditions: &[(&'static str, Value)]) -> &mut Self {
        let mut values = Vec::new();
        let guards = Conditions::split(conditions, &mut values);
        self.push(Shape { action: Action::DeleteWhere, table, set: Vec::new(), guards }, values)
    }

    /// Adds a condition. All guards are checked before anything is written.
    pub fn guard(&mut self, guard: Guard) -> &mut Self {
        self.timed |= guard.values.iter().any(Value::is_timed);
        let mut values = guard.values;
        values.iter_mut().for_each(Value::make_storable);
        self.guards.push(Operation { shape: guard.shape, values, tag: guard.tag });
        self.last = Last::Guard;
        self
    }

    /// Tags the guard, update or delete added last, to identify it in an error.
    pub fn tag(&mut self, tag: &'static str) -> &mut Self {
        let last = match self.last {
            Last::Nothing => None,
            Last::Guard => self.guards.last_mut(),
            Last::Operation => self.operations.last_mut(),
        };
        if let Some(operation) = last {
            operation.tag = Some(tag);
        }
        self
    }

    /// Records that an entity was removed: its kind (or view) and key, at this write set's revision.
    pub fn tombstone(&mut self, rev: RevRef, kind: &str, key: &str) -> &mut Self {
        let scope = self.scopes.get(rev.0 as usize).map(|s| Value::from(s.as_str()));
        let Some(scope) = scope else {
            self.defect(format!("tombstone {kind} {key} names a revision of another write set"));
            return self;
        };
        self.upsert(&TOMBSTONES, [scope, kind.into(), key.into(), rev.into(), Value::Now])
    }

    /// Adds an audit record.
    pub fn audit(&mut self, record: AuditRecord) -> &mut Self {
        let rev = self.scope(Scope::audit(&record.organization_id));
        self.audits += 1;
        let values = [
            record.organization_id.into(),
            rev.into(),
            Value::Int(self.audits),
            Value::Now,
            record.actor.into(),
            record.action.into(),
            record.subject.into(),
            record.detail_json.into(),
            record.request_id.into(),
            record.trace.into(),
        ];
        self.insert(&AUDIT, values)
    }

    /// Stores the answer for repeats of the request; does nothing for an empty request id. The revision stored with it
    /// is that of the scope reserved first before this call.
    pub fn idempotency(
        &mut self,
        key: IdempotencyKey,
        body_hash: BodyHash,
        response: impl Into<Bytes>,
        expires: Option<Timestamp>,
    ) -> &mut Self {
        if !key.protects() {
            return self;
        }
        if self.idempotency.is_some() {
            self.defect("two idempotency records".to_owned());
            return self;
        }
        let first = self.scopes.iter().position(|s| !s.is_audit());
        let rev = first.map_or(Value::Int(0), |i| RevRef(u32::try_from(i).unwrap_or(u32::MAX)).into());
        let mut values = Vec::with_capacity(IDEMPOTENCY.columns.len());
        values.extend(key.values());
        let hash = Value::from(&body_hash.0[..]);
        values.extend([hash, response.into().into(), rev, expires.into()]);
        self.idempotency = Some((key, body_hash));
        self.insert(&IDEMPOTENCY, values)
    }

    /// Notifies a topic in this process (and in others, over the hint transport) after the commit.
    pub fn wake(&mut self, topic: impl Into<String>) -> &mut Self {
        let topic = topic.into();
        if !self.topics.contains(&topic) {
            self.topics.push(topic);
        }
        self
    }

    /// Appends another write set; its revision references stay valid in its own rows, and
    /// [`crate::Committed::scope_rev`] covers its scopes.
    pub fn merge(&mut self, other: WriteSet) -> &mut Self {
        let map: Vec<RevRef> = other.scopes.into_iter().map(|s| self.scope(s)).collect();
        let audits = self.audits;
        let adopt = |mut operation: Operation| {
            for value in &mut operation.values {
                if let Value::Rev(r) = value {
                    *r = map.get(r.0 as usize).copied().unwrap_or(*r);
                }
            }
            if let (true, Some(Value::Int(ordinal))) =
                (*operation.shape.table == AUDIT, operation.values.get_mut(2))
            {
                *ordinal += audits;
            }
            operation
        };
        self.guards.extend(other.guards.into_iter().map(adopt));
        self.operations.extend(other.operations.into_iter().map(adopt));
        self.audits += other.audits;
        self.timed |= other.timed;
        for topic in other.topics {
            self.wake(topic);
        }
        match (&self.idempotency, other.idempotency) {
            (Some(_), Some(_)) => self.defect("two idempotency records".to_owned()),
            (None, theirs @ Some(_)) => self.idempotency = theirs,
            _ => {}
        }
        if let Some(text) = other.defect {
            self.defect(text);
        }
        self.last = Last::Nothing;
        self
    }

    /// Whether a commit would write nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty() && self.scopes.is_empty()
    }

    /// SQLite takes the last value of a column that is set twice, and PostgreSQL refuses the statement.
    fn check_once(&mut self, table: &'static Table, set: &[(&'static str, Value)]) {
        if let Some(i) = (1..set.len()).find(|&i| set[..i].iter().any(|(c, _)| *c == set[i].0)) {
            self.defect(format!("update of {} sets {} twice", table.name, set[i].0));
        }
    }

    fn row(&mut self, action: Action, table: &'static Table, values: Vec<Value>) -> &mut Self {
        if values.len() != table.columns.len() {
            let (got, want) = (values.len(), table.columns.len());
            self.defect(format!("{got} values for the {want} columns of {}", table.name));
        }
        self.push(Shape { action, table, set: Vec::new(), guards: Conditions::default() }, values)
    }

    fn push(&mut self, shape: Shape, mut values: Vec<Value>) -> &mut Self {
        values.iter_mut().for_each(Value::make_storable);
        self.timed |= values.iter().any(Value::is_timed);
        self.operations.push(Operation { shape, values, tag: None });
        self.last = Last::Operation;
        self
    }

    fn check_key(&mut self, table: &Table, key: &[Value]) {
        if key.len() != table.key.len() {
            self.defect(format!("{} values for the key of {}", key.len(), table.name));
        }
    }

    /// Records the first contradiction; the commit then fails with it.
    fn defect(&mut self, text: String) {
        self.defect.get_or_insert(text);
    }
}
