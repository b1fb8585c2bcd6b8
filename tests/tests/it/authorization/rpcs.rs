//! Every rpc against every caller that must not get through.

use std::time::Duration;

use foundry_authn::{MethodPolicies, role_name};
use foundry_proto::auth::v1::SetMemberRequest;
use foundry_proto::common::v1::Role;
use foundry_proto::options::v1::Access;
use foundry_tests::{Mesh, Shape};
use prost::Message as _;
use prost_reflect::MethodDescriptor;
use tonic::Code;

use super::calls::{Answer, Door, ends_snapshot, methods, path_of};
use super::credentials::{Mint, bad, revoked};
use super::ids::{Kind, Place, absent, places, request};
use super::world::World;

/// Limits would answer in place of what is tested.
pub const UNLIMITED: [&str; 2] =
    ["gateway.caller.requests_per_second=0", "gateway.anonymous.requests_per_second=0"];

/// The servers that a client may call a method at: the gateway where it forwards it, and the services that serve it.
fn doors(mesh: &Mesh, method: &MethodDescriptor) -> Vec<Door> {
    let of = |name: &'static str| Door::of(name, mesh.url(name));
    match method.parent_service().full_name().split('.').nth(1).unwrap() {
        "edge" => vec![of("gateway")],
        "watch" => vec![of("auth"), of("repo"), of("task"), of("provisioner")],
        "auth" => vec![of("gateway"), of("auth")],
        "repo" => vec![of("gateway"), of("repo")],
        "task" => vec![of("gateway"), of("task")],
        "provisioner" => vec![of("gateway"), of("provisioner")],
        package => panic!("who serves {package}?"),
    }
}

/// Who may call a method, and the role that members need.
fn policy_of(policies: &MethodPolicies, method: &MethodDescriptor) -> (Access, Role) {
    let policy = policies.get(&path_of(method)).and_then(|found| found.policy.as_ref()).unwrap();
    (Access::try_from(policy.access).unwrap(), Role::try_from(policy.role).unwrap())
}

/// A request of a watch that asks its owner about another one.
fn asking_about(watch: &MethodDescriptor, asked: Vec<u8>) -> Vec<u8> {
    let method = path_of(watch);
    foundry_proto::watch::v1::AuthorizeWatchRequest { method, request: asked.into() }.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rpc_lets_in_who_is_not_there() {
    let mesh = Mesh::start(Shape::Embedded, &UNLIMITED);
    let ada = Box::pin(World::of(&mesh, "ada")).await;
    let (revoked_id, revoked_secret) = revoked(&ada.caller).await;
    let credentials = bad(&Mint::of(&mesh), &ada, &revoked_id);
    let gateway = Door::of("gateway", mesh.url("gateway"));
    until_refused(&gateway, &revoked_secret).await;
    let policies = MethodPolicies::shared().unwrap();
    let (mut tried, mut wrong) = (0, Vec::new());
    for method in methods() {
        let (path, (access, _)) = (path_of(&method), policy_of(&policies, &method));
        let body = request(&method, None, &|_, kind| Some(ada.id(kind)));
        for door in doors(&mesh, &method) {
            let anonymous = door.call(None, &path, Vec::new()).await;
            for it in &credentials {
                tried += 1;
                if access == Access::Open {
                    // A bad token counts as none there: an empty request is answered alike.
                    let got = door.call(it.token.as_deref(), &path, Vec::new()).await;
                    if got.code != anonymous.code || got.reason() != anonymous.reason() {
                        wrong.push(format!(
                            "{path} at {} with {}: {got:?}, not {anonymous:?}",
                            door.name, it.what
                        ));
                    }
                    continue;
                }
                let got = door.call(it.token.as_deref(), &path, body.clone()).await;
                if (got.code, got.reason().as_str()) != (Code::Unauthenticated, it.reason) {
                    wrong.push(format!("{path} at {} with {}: {got:?}", door.name, it.what));
                }
            }
        }
        if access != Access::Open && !path.starts_with("/foundry.watch.") {
            let got = gateway.call(Some(&revoked_secret), &path, body).await;
            if got.code != Code::Unauthenticated {
                wrong.push(format!("{path} with a revoked personal access token: {got:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}: {wrong:#?}", wrong.len());
    assert!(tried > 1_500, "only {tried} calls were tried");
}

/// Waits until the gateway has heard of a revocation.
async fn until_refused(gateway: &Door, token: &str) {
    let call = || gateway.call(Some(token), "/foundry.auth.v1.AuthService/GetUser", Vec::new());
    let refused = async {
        while call().await.code != Code::Unauthenticated {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), refused).await.expect("it must be refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_rpc_does_for_a_viewer_what_needs_more() {
    let mesh = Mesh::start(Shape::Embedded, &UNLIMITED);
    let (ada, vera) = (Box::pin(World::of(&mesh, "ada")).await, mesh.sign_in("vera").await);
    let join = SetMemberRequest {
        organization_id: ada.caller.organization_id.clone(),
        login: "vera".to_owned(),
        role: Role::Viewer.into(),
        ..Default::default()
    };
    ada.caller.auth().set_member(join).await.unwrap();
    let gateway = Door::of("gateway", mesh.url("gateway"));
    let policies = MethodPolicies::shared().unwrap();
    let (mut refused, mut wrong) = (0, Vec::new());
    for method in methods() {
        let (path, (access, role)) = (path_of(&method), policy_of(&policies, &method));
        if access != Access::Member {
            continue;
        }
        // A fetch for a sandbox is a service's alone.
        let is_left_out = |kind| method.name() == "ServeFetch" && kind == Kind::Task;
        let body = request(&method, None, &|_, kind| (!is_left_out(kind)).then(|| ada.id(kind)));
        let got = gateway.call(Some(&vera.token), &path, body).await;
        let needs = got.info().and_then(|info| info.metadata.get("required_role").cloned());
        if role == Role::Viewer {
            if got.code == Code::PermissionDenied {
                wrong.push(format!("{path} is for viewers: {got:?}"));
            }
        } else if got.code == Code::PermissionDenied && needs.as_deref() == Some(role_name(role)) {
            refused += 1;
        } else {
            wrong.push(format!("{path} needs {}: {got:?}", role_name(role)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(refused > 40, "only {refused} rpcs were refused");
}

/// What is compared when every id is another's.
const ALL: &str = "all ids";

/// Fields by which the caller's own rows are chosen, or which only say who asked: another's id and an absent one choose none.
const ONLY_FILTERS: [(&str, &str); 9] = [
    ("DeleteReviewComment", "comment_id"),
    ("DestroySandbox", "user_id"),
    ("ListJobs", "task_id"),
    ("WatchUserState", "task_id"),
    ("ListTasks", "repository_id"),
    ("ListModelUsage", "task_id"),
    ("ListModelLimits", "task_id"),
    ("ListAuditEvents", "subject"),
    ("WatchJobs", "repository_id"),
];

/// Fields that are refused as a value of the form: a provider of another organization is as one that nobody has; what the request
/// does not change, or a limit of this scope does not have, is not looked up.
const OF_THE_FORM: [(&str, &str); 3] = [
    ("CreateAgentProfile", "settings.model_provider_id"),
    ("UpdateAgentProfile", "settings.model_provider_id"),
    ("SetModelLimit", "task_id"),
];

/// Fields that are kept as they were sent, and so come back: a profile is looked up, in the organization, when its agent starts; the
/// id of a comment is the caller's choice, among the caller's own.
const KEPT: [(&str, &str); 3] =
    [("CreateTask", "profile"), ("CreateSession", "profile"), ("PutReviewComment", "comment_id")];

#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_answers_for_ids_of_others_as_for_ids_that_nobody_has() {
    let mesh = Mesh::start(Shape::Embedded, &UNLIMITED);
    let (ada, eve) = tokio::join!(Box::pin(World::of(&mesh, "ada")), Box::pin(World::of(&mesh, "eve")));
    let matrix = Matrix { mesh: &mesh, ada: &ada, eve: &eve, token: eve_at_services(&mesh, &eve) };
    let (mut tried, mut wrong) = (0, Vec::new());
    for method in methods() {
        let places = places(&method);
        if places.is_empty() {
            continue;
        }
        tried += matrix.all_at_once(&method, &places, &mut wrong).await;
        for place in &places {
            tried += matrix.beside_own(&method, place, &mut wrong).await;
        }
    }
    assert!(wrong.is_empty(), "{} of {tried}: {wrong:#?}", wrong.len());
    assert!(tried > 200, "only {tried} requests were tried");
}

/// The token with which eve calls services directly.
fn eve_at_services(mesh: &Mesh, eve: &World) -> String {
    Mint::of(mesh).token(eve, |_| {})
}

struct Matrix<'a> {
    mesh: &'a Mesh,
    ada: &'a World,
    eve: &'a World,
    /// Eve's access token for the services.
    token: String,
}

impl Matrix<'_> {
    /// A request in which every id is ada's; then the same with ids that nobody has.
    async fn all_at_once(
        &self,
        method: &MethodDescriptor,
        places: &[Place],
        wrong: &mut Vec<String>,
    ) -> usize {
        let theirs = request(method, None, &|_, kind| Some(self.ada.id(kind)));
        let nobodys = request(method, None, &|_, kind| Some(absent(&self.ada.id(kind))));
        let names: Vec<_> =
            places.iter().map(|p| (self.ada.id(p.kind), absent(&self.ada.id(p.kind)))).collect();
        self.compare(method, ALL, theirs, nobodys, &names, wrong).await
    }

    /// A request in which one id is ada's and all others are eve's own.
    async fn beside_own(&self, method: &MethodDescriptor, place: &Place, wrong: &mut Vec<String>) -> usize {
        let with = |id: String| {
            let at = place.to_string();
            request(method, Some(place), &move |path, kind| {
                Some(if path.join(".") == at { id.clone() } else { self.eve.id(kind) })
            })
        };
        let id = self.ada.id(place.kind);
        let names = [(id.clone(), absent(&id))];
        let (theirs, nobodys) = (with(id.clone()), with(absent(&id)));
        self.compare(method, &place.to_string(), theirs, nobodys, &names, wrong).await
    }

    async fn compare(
        &self,
        method: &MethodDescriptor,
        what: &str,
        theirs: Vec<u8>,
        nobodys: Vec<u8>,
        names: &[(String, String)],
        wrong: &mut Vec<String>,
    ) -> usize {
        if KEPT.contains(&(method.name(), what)) {
            return 0;
        }
        let path = path_of(method);
        let gateway = Door::of("gateway", self.mesh.url("gateway"));
        let mut calls =
            vec![(gateway, self.eve.caller.token.clone(), path.clone(), theirs.clone(), nobodys.clone())];
        let is_watch = method.is_server_streaming() && method.name().starts_with("Watch");
        let (access, _) = policy_of(&MethodPolicies::shared().unwrap(), method);
        if is_watch && access != Access::Service && !path.starts_with("/foundry.edge.") {
            // The edge asks the owner of a watch by another rpc, which decides alike.
            let asked = "/foundry.watch.v1.WatchAuthorizationService/AuthorizeWatch".to_owned();
            let (theirs, nobodys) = (asking_about(method, theirs), asking_about(method, nobodys));
            let owner = doors(self.mesh, method).pop().unwrap();
            calls.push((owner, self.token.clone(), asked, theirs, nobodys));
        }
        let tried = calls.len();
        for (door, token, called, theirs, nobodys) in calls {
            let is_stream = is_watch && called == path;
            let is_last = |frame: &[u8]| !is_stream || ends_snapshot(frame);
            let ask = async || {
                let foreign = door.call_until(Some(&token), &called, theirs.clone(), is_last).await;
                (foreign, door.call_until(Some(&token), &called, nobodys.clone(), is_last).await)
            };
            let (mut foreign, mut absent) = ask().await;
            // A row of the caller's own that is shown may have changed by itself in between.
            for _ in 0..5 {
                if is_watch || foreign.code != Code::Ok || foreign.renamed(names) == absent {
                    break;
                }
                (foreign, absent) = ask().await;
            }
            // What the edge asks for contains the id in question again, but no row; a short id could be there by chance.
            if called == path {
                let theirs = self.ada.ids.values().filter(|id| id.len() > 16);
                for id in theirs.filter(|id| foreign.contains(id)) {
                    wrong.push(format!("{path} {what} shows {id}: {foreign:?}"));
                }
            }
            if is_watch {
                // Each stream has a position of its own, and what the edge asks for has a key made from the id.
                foreign.content.clear();
                absent.content.clear();
            }
            let accepted = match foreign.code {
                Code::Ok => ONLY_FILTERS.contains(&(method.name(), what)),
                Code::InvalidArgument => OF_THE_FORM.contains(&(method.name(), what)),
                _ => false,
            };
            if foreign.renamed(names) != absent {
                wrong.push(format!("{path} {what} differs: {foreign:?}, and {absent:?}"));
            } else if !(refuses(&foreign, what == ALL) || accepted) {
                wrong.push(format!("{path} {what} is not refused: {foreign:?}"));
            }
        }
        tried
    }
}

/// Whether an answer refuses an entity: as not found, or, with only one id that is not the caller's own, also for what it is
/// not, but never for the form of the request.
fn refuses(answer: &Answer, all: bool) -> bool {
    match answer.code {
        Code::NotFound | Code::PermissionDenied => true,
        Code::Ok | Code::InvalidArgument | Code::Internal | Code::Unknown | Code::Unavailable => false,
        _ => !all,
    }
}
