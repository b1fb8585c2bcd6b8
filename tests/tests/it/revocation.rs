//! What is revoked, on a mesh of several processes and under load: no call succeeds and no stream goes on afterwards, with
//! wake-ups, without them, and without the auth service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foundry_core::Env;
use foundry_proto::auth::v1::{
    CreateAccessTokenRequest, GetUserRequest, ListMembersRequest, RemoveMemberRequest,
    RevokeAccessTokenRequest, SetMemberRequest, SignOutRequest,
};
use foundry_proto::common::v1::Role;
use foundry_proto::provisioner::v1::{ListAgentProfilesRequest, WatchSandboxesRequest};
use foundry_proto::repo::v1::{ListRepositoriesRequest, WatchRepositoriesRequest};
use foundry_proto::task::v1::{
    ListAuditEventsRequest, ListTasksRequest, UpdateDraftRequest, WatchOrganizationRequest,
};
use foundry_store::{Scope, Store, StoreOptions, Table, WriteSet};
use foundry_tests::story::register;
use foundry_tests::{Caller, Mesh, Origin, Shape};
use futures::future::BoxFuture;
use rustix::process::Signal;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Limits would answer in place of what is tested.
const UNLIMITED: [&str; 2] =
    ["gateway.caller.requests_per_second=0", "gateway.anonymous.requests_per_second=0"];
/// Longest wait for what must happen in a second or a few.
const PATIENCE: Duration = Duration::from_secs(30);
/// A caller that was refused for so long is not let in by another process afterwards.
const STAYS_REFUSED: Duration = Duration::from_millis(300);
/// Callers that are busy beside the one who loses a right.
const BYSTANDERS: usize = 4;

type Call = Arc<dyn Fn() -> BoxFuture<'static, Result<(), Status>> + Send + Sync>;

/// A call as a function without its types.
macro_rules! call {
    ($client:expr, $method:ident, $request:expr) => {{
        let (client, request) = ($client, $request);
        let call: Call = Arc::new(move || {
            let (mut client, request) = (client.clone(), request.clone());
            Box::pin(async move { client.$method(request).await.map(drop) })
        });
        call
    }};
}

/// Opens a stream, reads its first frame, and returns what waits for its end.
macro_rules! stream {
    ($client:expr, $method:ident, $request:expr) => {{
        let mut stream = $client.$method($request).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        let ended: BoxFuture<'static, Status> = Box::pin(async move {
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        });
        ended
    }};
}

/// A call to each service by a member.
fn calls_of_member(caller: &Caller, organization_id: &str) -> Vec<Call> {
    let organization_id = organization_id.to_owned();
    let (members, repositories) = (
        ListMembersRequest { organization_id: organization_id.clone(), ..Default::default() },
        ListRepositoriesRequest { organization_id: organization_id.clone(), ..Default::default() },
    );
    let tasks = ListTasksRequest { organization_id: organization_id.clone(), ..Default::default() };
    let profiles = ListAgentProfilesRequest { organization_id, ..Default::default() };
    vec![
        call!(caller.auth(), list_members, members),
        call!(caller.repo(), list_repositories, repositories),
        call!(caller.task(), list_tasks, tasks),
        call!(caller.profiles(), list_agent_profiles, profiles),
    ]
}

/// A stream of each service with an organization.
async fn streams_of_member(caller: &Caller, organization_id: &str) -> Vec<BoxFuture<'static, Status>> {
    let organization_id = organization_id.to_owned();
    let tasks = WatchOrganizationRequest { organization_id: organization_id.clone(), options: None };
    let repositories = WatchRepositoriesRequest { organization_id: organization_id.clone(), options: None };
    let sandboxes = WatchSandboxesRequest { organization_id, options: None };
    vec![
        stream!(caller.task(), watch_organization, tasks),
        stream!(caller.repo(), watch_repositories, repositories),
        stream!(caller.provisioner(), watch_sandboxes, sandboxes),
    ]
}

/// Busy callers whose rights nobody touches: each of their calls must succeed.
struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<usize>,
}

impl Load {
    fn begin(caller: &Caller) -> Self {
        let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for _ in 0..BYSTANDERS {
            let (calls, stop) = (calls_of_member(caller, &caller.organization_id), Arc::clone(&stop));
            callers.spawn(async move {
                let mut made = 0;
                while !stop.load(Ordering::SeqCst) {
                    for call in &calls {
                        call().await.expect("a caller with all its rights");
                        made += 1;
                    }
                }
                made
            });
        }
        Self { stop, callers }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        let made: usize = self.callers.join_all().await.into_iter().sum();
        assert!(made > 0);
    }
}

/// Calls again and again until all stay refused; returns how long after `begun` the last success began.
async fn last_success(
    calls: Vec<Call>,
    begun: impl Fn() -> Option<Instant> + Clone + Send + 'static,
) -> Duration {
    let mut callers = JoinSet::new();
    for call in calls {
        let begun = begun.clone();
        callers.spawn(async move {
            let (mut last, mut refused_since, limit) = (Duration::ZERO, None, Instant::now());
            loop {
                assert!(limit.elapsed() < PATIENCE, "it is not refused");
                let asked = Instant::now();
                match call().await {
                    Ok(()) => {
                        refused_since = None;
                        let late = begun().map(|revoked| asked.saturating_duration_since(revoked));
                        last = last.max(late.unwrap_or_default());
                    }
                    Err(status) => {
                        let code = status.code();
                        let refused = [Code::Unauthenticated, Code::PermissionDenied, Code::NotFound];
                        assert!(refused.contains(&code), "{status}");
                        if refused_since.get_or_insert(asked).elapsed() > STAYS_REFUSED {
                            return last;
                        }
                    }
                }
            }
        });
    }
    callers.join_all().await.into_iter().max().unwrap()
}

/// One who loses a right: the calls that need it, the streams that show it, and what takes it.
struct Loss {
    calls: Vec<Call>,
    streams: Vec<BoxFuture<'static, Status>>,
    take: BoxFuture<'static, ()>,
}

impl Loss {
    /// Takes the right under these calls; returns how long after it the last call succeeded and the last stream ended.
    async fn measure(self) -> Duration {
        let revoked: Arc<std::sync::OnceLock<Instant>> = Arc::default();
        let seen = Arc::clone(&revoked);
        let mut calling = JoinSet::new();
        calling.spawn(last_success(self.calls, move || seen.get().copied()));
        let mut streams = JoinSet::new();
        for stream in self.streams {
            streams.spawn(async move {
                let status = tokio::time::timeout(PATIENCE, stream).await.expect("the stream must end");
                assert!(matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied), "{status}");
                Instant::now()
            });
        }
        self.take.await;
        let at = *revoked.get_or_init(Instant::now);
        let last = calling.join_all().await.into_iter().max().unwrap();
        let ended = streams.join_all().await.into_iter().map(|end| end.saturating_duration_since(at)).max();
        last.max(ended.unwrap_or_default())
    }
}

/// Adds a user of this name to ada's organization.
async fn member(mesh: &Mesh, ada: &Caller, login: &str, role: Role) -> Caller {
    let caller = mesh.sign_in(login).await;
    set_role(ada, login, role).await;
    caller
}

async fn set_role(ada: &Caller, login: &str, role: Role) {
    let request = SetMemberRequest {
        request_id: String::new(),
        organization_id: ada.organization_id.clone(),
        login: login.to_owned(),
        role: role.into(),
    };
    ada.auth().set_member(request).await.unwrap();
}

async fn user_id(caller: &Caller) -> String {
    caller.auth().get_user(GetUserRequest {}).await.unwrap().into_inner().user.unwrap().user_id
}

/// A personal access token of ada's: a caller by it, and its id.
async fn program(mesh: &Mesh, ada: &Caller) -> (Caller, String) {
    let request = CreateAccessTokenRequest {
        organization_id: ada.organization_id.clone(),
        name: "program".to_owned(),
        ..Default::default()
    };
    let made = ada.auth().create_access_token(request).await.unwrap().into_inner();
    let program = Caller::with_token(&mesh.url("gateway"), &made.secret, &ada.organization_id);
    (program, made.access_token.unwrap().access_token_id)
}

/// Waits until a call succeeds: a new membership is news to a process, too.
async fn until_allowed(call: &Call) {
    let allowed = async {
        while call().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, allowed).await.expect("it must be allowed");
}

async fn signed_out(mesh: &Mesh, ada: &Caller, _: usize) -> Loss {
    let caller = mesh.sign_in("ada").await;
    let (calls, streams) = (
        calls_of_member(&caller, &ada.organization_id),
        streams_of_member(&caller, &ada.organization_id).await,
    );
    let take = Box::pin(async move { caller.auth().sign_out(SignOutRequest {}).await.map(drop).unwrap() });
    Loss { calls, streams, take }
}

async fn revoked_token(mesh: &Mesh, ada: &Caller, _: usize) -> Loss {
    let (caller, access_token_id) = program(mesh, ada).await;
    let (calls, streams) = (
        calls_of_member(&caller, &ada.organization_id),
        streams_of_member(&caller, &ada.organization_id).await,
    );
    let (request, ada) =
        (RevokeAccessTokenRequest { request_id: String::new(), access_token_id }, ada.clone());
    let take = Box::pin(async move { ada.auth().revoke_access_token(request).await.map(drop).unwrap() });
    Loss { calls, streams, take }
}

async fn removed_member(mesh: &Mesh, ada: &Caller, round: usize) -> Loss {
    let caller = member(mesh, ada, &format!("bob{round}"), Role::Viewer).await;
    let calls = calls_of_member(&caller, &ada.organization_id);
    for call in &calls {
        until_allowed(call).await;
    }
    let streams = streams_of_member(&caller, &ada.organization_id).await;
    let request = RemoveMemberRequest {
        request_id: String::new(),
        organization_id: ada.organization_id.clone(),
        user_id: user_id(&caller).await,
    };
    let ada = ada.clone();
    let take = Box::pin(async move { ada.auth().remove_member(request).await.map(drop).unwrap() });
    Loss { calls, streams, take }
}

async fn lowered_role(mesh: &Mesh, ada: &Caller, round: usize) -> Loss {
    let login = format!("carol{round}");
    let caller = member(mesh, ada, &login, Role::Admin).await;
    let request =
        ListAuditEventsRequest { organization_id: ada.organization_id.clone(), ..Default::default() };
    // What an admin may do and a viewer may not.
    let calls = vec![call!(caller.task(), list_audit_events, request)];
    until_allowed(&calls[0]).await;
    let streams = streams_of_member(&caller, &ada.organization_id).await;
    let ada = ada.clone();
    let take = Box::pin(async move { set_role(&ada, &login, Role::Viewer).await });
    Loss { calls, streams, take }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_right_counts_on_every_process_within_a_second_under_load() {
    let mesh = Mesh::start(Shape::Separate, &UNLIMITED);
    let ada = mesh.sign_in("ada").await;
    let load = Load::begin(&ada);
    let mut took: [Vec<Duration>; 4] = Default::default();
    for round in 0..3 {
        took[0].push(signed_out(&mesh, &ada, round).await.measure().await);
        took[1].push(revoked_token(&mesh, &ada, round).await.measure().await);
        took[2].push(removed_member(&mesh, &ada, round).await.measure().await);
        took[3].push(lowered_role(&mesh, &ada, round).await.measure().await);
    }
    load.end().await;
    for (what, took) in ["signed out", "revoked token", "removed member", "lowered role"].iter().zip(&took) {
        println!("{what}: {took:?}");
        // A busy machine may delay some of them, but not all.
        assert!(took.iter().any(|t| *t < Duration::from_secs(1)), "{what}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_wakes_nobody_counts_within_five_seconds() {
    const REVOCATIONS: Table =
        Table::new("revocations", &["key", "revoked_at", "keep_until", "rev"], &["key"]);
    let mesh = Mesh::start(Shape::Separate, &UNLIMITED);
    let ada = mesh.sign_in("ada").await;
    // Another process writes it, as a replica of auth would, and no wake-up leaves that process.
    let url = format!("sqlite:{}", mesh.data().join("auth/auth.db").display());
    let env = Env::system();
    let store = Store::connect(&url, &[], &env, StoreOptions::default()).await.unwrap();
    let load = Load::begin(&ada);
    let mut took = Vec::new();
    for _ in 0..3 {
        let (caller, access_token_id) = program(&mesh, &ada).await;
        let (calls, streams) = (
            calls_of_member(&caller, &ada.organization_id),
            streams_of_member(&caller, &ada.organization_id).await,
        );
        let (store, now) = (store.clone(), env.clock.now());
        let take = Box::pin(async move {
            let mut set = WriteSet::new();
            let rev = set.scope(Scope::service("revocations"));
            let key = foundry_authn::credential_key(&access_token_id);
            let until = now.plus(Duration::from_secs(600));
            set.upsert(&REVOCATIONS, [key.into(), now.into(), until.into(), rev.into()]);
            store.commit(set).await.unwrap();
        });
        took.push(Loss { calls, streams, take }.measure().await);
    }
    load.end().await;
    store.close().await;
    println!("{took:?}");
    // A busy machine may delay one of them.
    let in_time = took.iter().filter(|t| **t < Duration::from_secs(5)).count();
    assert!(in_time >= 2, "{took:?}");
}

/// Takes more than a minute, by the rule that it shows: `make test-long`, no part of `make test`.
#[tokio::test(flavor = "multi_thread")]
async fn without_auth_nothing_is_changed_after_a_minute_and_reads_go_on() {
    let mesh = Mesh::start(Shape::Separate, &UNLIMITED);
    let ada = mesh.sign_in("ada").await;
    let repository = register(&ada, &Origin::create(mesh.dir())).await;
    let draft = UpdateDraftRequest {
        organization_id: ada.organization_id.clone(),
        subject: format!("new_task/{}", repository.repository_id),
        text: "a".to_owned(),
    };
    let change = call!(ada.task(), update_draft, draft);
    let tasks = ListTasksRequest { organization_id: ada.organization_id.clone(), ..Default::default() };
    let read = call!(ada.task(), list_tasks, tasks);
    change().await.unwrap();
    let watch = WatchOrganizationRequest { organization_id: ada.organization_id.clone(), options: None };
    let mut stream = stream!(ada.task(), watch_organization, watch);

    // It is there and says nothing, so that no connection breaks.
    mesh.signal("auth", Signal::STOP);
    let stopped = Instant::now();
    let refused = loop {
        read().await.expect("reads go on");
        match change().await {
            Ok(()) => assert!(stopped.elapsed() < Duration::from_secs(75), "changes are still accepted"),
            Err(status) => break status,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let reason = refused.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!(
        (refused.code(), reason.as_deref()),
        (Code::Unavailable, Some("REVOCATIONS_STALE")),
        "{refused}"
    );
    assert!(stopped.elapsed() > Duration::from_secs(58), "refused after {:?}", stopped.elapsed());
    read().await.expect("reads go on");
    let ended = tokio::time::timeout(Duration::from_millis(100), &mut stream).await;
    assert!(ended.is_err(), "streams go on until their tokens end: {ended:?}");

    mesh.signal("auth", Signal::CONT);
    until_allowed(&change).await;
}
