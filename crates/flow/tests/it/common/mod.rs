//! A flow of seven stages whose effects are kept in a ledger, and the entity it works on.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Env, FlowId};
use foundry_flow::{
    Binding, Engine, Flow, FlowStatus, MIGRATIONS, NewFlow, Options, Outcome, Retry, Stage, StageContext,
    enqueue, find,
};
use foundry_store::{Migration, Migrations, Store, StoreOptions, Table, WriteSet};
use foundry_testkit::{MockClock, PostgresDatabase, TestEnv, test_env};
use futures::future::BoxFuture;

const LIMIT: Duration = Duration::from_secs(60);
/// Worker and database have different clocks, as in production.
const DATABASE_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

pub static SEVEN: Flow<Ledger> = Flow::new(
    "seven",
    &[
        Stage::new("one", LIMIT, Retry::DEFAULT, effect),
        Stage::new("two", LIMIT, Retry::DEFAULT, effect),
        Stage::new("three", LIMIT, Retry::DEFAULT, effect),
        Stage::new("four", LIMIT, Retry::DEFAULT, effect),
        Stage::new("five", LIMIT, Retry::DEFAULT, effect),
        Stage::new("six", LIMIT, Retry::DEFAULT, effect),
        Stage::new("seven", LIMIT, Retry::DEFAULT, effect),
    ],
);

const ENTITY_SQL: &str = "CREATE TABLE entities (entity_id TEXT NOT NULL PRIMARY KEY, stage TEXT NOT NULL, \
     status TEXT NOT NULL, attempt BIGINT NOT NULL, reason TEXT NOT NULL, progress TEXT NOT NULL)";

pub static SERVICE: Migrations = Migrations {
    owner: "service",
    steps: &[Migration { version: 1, name: "entities", sqlite: ENTITY_SQL, postgres: ENTITY_SQL }],
};

pub static ENTITIES: Table = Table::new(
    "entities",
    &["entity_id", "stage", "status", "attempt", "reason", "progress"],
    &["entity_id"],
);

/// The external system: effects by name, and how often each was requested.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, (u32, bool)>>>);

impl Ledger {
    pub fn create(&self, name: &str) {
        let mut all = self.0.lock().unwrap();
        let entry = all.entry(name.to_owned()).or_default();
        *entry = (entry.0 + 1, true);
    }

    pub fn existing(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|(_, e)| e.1).map(|(n, _)| n.clone()).collect()
    }
}

/// Creates its effect by name.
pub fn effect<'a>(ledger: &'a Arc<Ledger>, ctx: &'a StageContext) -> BoxFuture<'a, Outcome> {
    ledger.create(&ctx.effect_name());
    Box::pin(async { Outcome::done().with_state(&ctx.flow().stage) })
}

/// The function of a stage, as a closure.
pub type Code = Box<dyn for<'a> Fn(&'a StageContext) -> BoxFuture<'a, Outcome> + Send + Sync>;

/// The stage that this closure is.
pub fn code<F>(code: F) -> Code
where
    F: for<'a> Fn(&'a StageContext) -> BoxFuture<'a, Outcome> + Send + Sync + 'static,
{
    Box::new(code)
}

/// A job with a short budget.
pub static JOB: Flow<Code> = Flow::new(
    "job",
    &[Stage::new(
        "work",
        LIMIT,
        Retry { initial: Duration::from_secs(1), factor: 2, max_delay: Duration::from_secs(10), budget: 3 },
        |code: &Arc<Code>, ctx| code(ctx),
    )],
)
.concurrency(2);

/// A flow of two stages.
pub static TWO: Flow<[Code; 2]> = Flow::new(
    "two",
    &[
        Stage::new("one", LIMIT, Retry::DEFAULT, |codes, ctx| codes[0](ctx)),
        Stage::new("two", LIMIT, Retry::DEFAULT, |codes, ctx| codes[1](ctx)),
    ],
);

/// The flow of two stages with their code.
pub fn two_stages(one: Code, two: Code) -> Binding {
    TWO.bind(&Arc::new([one, two])).projection(project)
}

/// The job with this code.
pub fn job<F>(of: F) -> Binding
where
    F: for<'a> Fn(&'a StageContext) -> BoxFuture<'a, Outcome> + Send + Sync + 'static,
{
    JOB.bind(&Arc::new(code(of))).projection(project)
}

/// The entity's row follows its flow.
pub fn project(flow: &FlowStatus) -> WriteSet {
    let mut ws = WriteSet::new();
    ws.update(
        &ENTITIES,
        &[flow.subject_id.as_str().into()],
        &[
            ("stage", flow.stage.as_str().into()),
            ("status", flow.status.as_str().into()),
            ("attempt", flow.attempt.into()),
            ("reason", flow.reason.as_str().into()),
            ("progress", flow.last_progress.as_str().into()),
        ],
        &[],
    );
    ws
}

pub fn seven(ledger: &Ledger) -> Binding {
    SEVEN.bind(&Arc::new(ledger.clone())).projection(project)
}

/// A fresh database, and two clocks that stand still: the worker's, and PostgreSQL's a day ahead of it.
pub struct Bench {
    pub store: Store,
    pub time: TestEnv,
    pub ledger: Ledger,
    database_clock: Arc<MockClock>,
    _dir: Option<tempfile::TempDir>,
}

impl Bench {
    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("flow.db").display());
        Self::connect(&url, Some(dir)).await
    }

    pub async fn postgres() -> Self {
        Self::connect(&PostgresDatabase::create().await.unwrap().url, None).await
    }

    async fn connect(url: &str, dir: Option<tempfile::TempDir>) -> Self {
        let time = test_env();
        let database_clock = Arc::new(MockClock::at(time.env.clock.now().plus(DATABASE_AHEAD)));
        let options = StoreOptions { clock: Some(database_clock.clone()), ..StoreOptions::default() };
        let store = Store::connect(url, &[&MIGRATIONS, &SERVICE], &time.env, options).await.unwrap();
        Self { store, time, ledger: Ledger::default(), database_clock, _dir: dir }
    }

    pub fn env(&self) -> &Env {
        &self.time.env
    }

    pub fn advance(&self, d: Duration) {
        self.database_clock.advance(d);
        self.time.clock.advance(d);
    }

    pub fn engine(&self, flows: Vec<Binding>) -> Engine {
        Engine::new(self.store.clone(), self.env().clone(), flows, Options::default()).unwrap()
    }

    pub async fn flow(&self, id: &FlowId) -> FlowStatus {
        find(&self.store, id).await.unwrap().unwrap()
    }

    /// Polls the flow until it is as wanted; the clock stands still.
    pub async fn until(&self, id: &FlowId, wanted: impl Fn(&FlowStatus) -> bool) -> FlowStatus {
        let polled = async {
            loop {
                let now = self.flow(id).await;
                if wanted(&now) {
                    return now;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), polled).await.unwrap()
    }

    pub async fn commit(&self, fill: impl FnOnce(&mut WriteSet)) {
        let mut ws = WriteSet::new();
        fill(&mut ws);
        self.store.commit(ws).await.unwrap();
    }

    /// Creates the entity and its flow in one commit, as a handler would.
    pub async fn start<C>(&self, flow: &'static Flow<C>, entity: &str) -> FlowId {
        start(&self.store, self.env(), flow, entity).await
    }

    pub async fn entity(&self, id: &str) -> (String, String) {
        entity(&self.store, id).await
    }
}

pub async fn start<C>(store: &Store, env: &Env, flow: &'static Flow<C>, entity: &str) -> FlowId {
    let id = FlowId::generate(env);
    let mut ws = WriteSet::new();
    ws.insert(&ENTITIES, [entity.into(), "".into(), "queued".into(), 0.into(), "".into(), "".into()]);
    enqueue(&mut ws, NewFlow::new(flow, id.clone(), entity, entity));
    store.commit(ws).await.unwrap();
    id
}

pub async fn entity(store: &Store, id: &str) -> (String, String) {
    let rows = store.query("SELECT * FROM entities WHERE entity_id = $1", &[id.into()]).await.unwrap();
    (rows[0].text("stage").unwrap().to_owned(), rows[0].text("status").unwrap().to_owned())
}

/// Runs each named test on each database.
macro_rules! on_both_databases {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                Box::pin(super::$test($crate::common::Bench::sqlite().await)).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                Box::pin(super::$test($crate::common::Bench::postgres().await)).await;
            })*
        }
    };
}
