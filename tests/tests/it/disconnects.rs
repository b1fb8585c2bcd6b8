//! Clients that disconnect right after sending: acknowledged writes are durable, and nothing is left half-done.

use std::collections::HashSet;
use std::time::Duration;

use foundry_proto::task::v1::{ListAuditEventsRequest, Task, UpdateTaskRequest};
use foundry_tests::faults::Faults;
use foundry_tests::story::{create_task, register};
use foundry_tests::{Caller, Mesh, Origin, Shape};

/// Number of clients that disconnect.
const CLIENTS: u32 = 5_000;
/// Number of concurrent clients.
const AT_ONCE: usize = 32;

/// Renames a task on a connection of its own, which closes when the future is dropped.
async fn rename(gateway: String, ada: Caller, task: Task, n: u32) -> Option<String> {
    let mut client = Caller::connected(&gateway, &ada.token, &ada.organization_id).await.task();
    let request_id = format!("client-{n}");
    let request = UpdateTaskRequest {
        request_id: request_id.clone(),
        task_id: task.task_id,
        title: format!("title {n}"),
    };
    let call = client.update_task(request);
    if n.is_multiple_of(20) {
        return call.await.ok().map(|_| request_id);
    }
    // Spread over 0 to 2 ms by a fixed pattern, so that a run can be repeated.
    let patience = Duration::from_micros(u64::from(n * 7_919 % 2_000));
    tokio::time::timeout(patience, call).await.ok()?.ok().map(|_| request_id)
}

/// The request ids of all recorded changes.
async fn recorded(caller: &Caller) -> HashSet<String> {
    let (mut found, mut page_token) = (HashSet::new(), String::new());
    loop {
        let request = ListAuditEventsRequest {
            organization_id: caller.organization_id.clone(),
            page_size: 500,
            page_token,
            ..ListAuditEventsRequest::default()
        };
        let page = caller.task().list_audit_events(request).await.unwrap().into_inner();
        found.extend(page.events.into_iter().map(|e| e.request_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_of_five_thousand_leaving_clients_is_durable() {
    use futures::StreamExt as _;
    let dir = tempfile::tempdir().unwrap();
    Faults::none(dir.path()).hang("allocate");
    let unlimited = ["gateway.caller.requests_per_second=0"];
    let mut mesh = Mesh::start_faulty(Shape::Embedded, dir.path(), &unlimited);
    let ada = mesh.sign_in("ada").await;
    let repository = register(&ada, &Origin::create(mesh.dir())).await;
    let mut tasks = Vec::new();
    for n in 0..AT_ONCE {
        tasks.push(create_task(&ada, &repository, &format!("say {n}")).await.0);
    }
    let gateway = mesh.url("gateway");
    let acknowledged: Vec<String> = futures::stream::iter(0..CLIENTS)
        .map(|n| rename(gateway.clone(), ada.clone(), tasks[n as usize % AT_ONCE].clone(), n))
        .buffer_unordered(AT_ONCE)
        .filter_map(|id| async move { id })
        .collect()
        .await;
    assert!(acknowledged.len() >= 200, "only {} were acknowledged", acknowledged.len());
    let before = recorded(&ada).await;
    let lost: Vec<_> = acknowledged.iter().filter(|id| !before.contains(*id)).collect();
    assert!(lost.is_empty(), "acknowledged and not recorded: {lost:?}");

    mesh.crash_and_restart();
    let after = recorded(&ada).await;
    let lost: Vec<_> = before.difference(&after).collect();
    assert!(lost.is_empty(), "recorded before the crash and not after it: {lost:?}");
    println!("{} of {CLIENTS} acknowledged, {} recorded, none lost", acknowledged.len(), before.len());
}
