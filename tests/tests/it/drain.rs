//! A stop under load loses no acknowledged write, and ends in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foundry_core::{Env, Tasks};
use foundry_proto::task::v1::{GetTaskRequest, OrganizationItem, WatchOrganizationRequest};
use foundry_tests::faults::Faults;
use foundry_tests::mesh::LONG_STOP;
use foundry_tests::story::{register, task_request};
use foundry_tests::{Mesh, Origin, Shape};
use foundry_watch::{Consumer, ConsumerConfig, State};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_keeps_what_was_acknowledged_and_watches_resume() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::none(dir.path());
    faults.hang("allocate");
    let mut mesh = Mesh::start_faulty(Shape::Embedded, dir.path(), &[LONG_STOP, "drain.unary=20s"]);
    let ada = mesh.sign_in("ada").await;
    let repository = register(&ada, &Origin::create(mesh.dir())).await;

    let (tasks, _failures) = Tasks::new();
    let watching = WatchOrganizationRequest { organization_id: ada.organization_id.clone(), options: None };
    let (client, request) = (ada.task(), watching.clone());
    let mut watch: Consumer<OrganizationItem> =
        Consumer::start(&tasks, Env::system(), ConsumerConfig::new("organization"), move |options| {
            let (mut client, request) = (client.clone(), request.clone());
            async move {
                let request = WatchOrganizationRequest { options: Some(options), ..request };
                Ok(client.watch_organization(request).await?.into_inner())
            }
        });
    // A client that never reads its watch.
    let _never_read = ada.task().watch_organization(watching).await.unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let mut load = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (ada, repository, stop) = (ada.clone(), repository.clone(), stop.clone());
        load.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0..500 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let request = task_request(&ada, &repository, &format!("say {worker} {n}"));
                if let Ok(answer) = ada.task().create_task(request).await {
                    acknowledged.push(answer.into_inner().task.unwrap().task_id);
                }
            }
            acknowledged
        });
    }
    let mut state: State<OrganizationItem> = State::default();
    while state.rows().len() < 20 {
        let event = watch.next().await.unwrap();
        state.apply(&event);
    }
    let begun = Instant::now();
    mesh.signal("up", rustix::process::Signal::TERM);
    let status = mesh.ended("up");
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let acknowledged = load.join_all().await.concat();
    assert!(status.success(), "{status}\n{}", mesh.log_tail());
    // Below the hard limit: it ended by itself.
    assert!(took < Duration::from_secs(45), "the stop took {took:?}");
    assert!(!mesh.log().contains("database closed"));

    mesh.start_again();
    for task_id in &acknowledged {
        let request = GetTaskRequest { task_id: task_id.clone() };
        ada.task().get_task(request).await.unwrap_or_else(|e| panic!("{task_id} was lost: {e}"));
    }
    while acknowledged.iter().any(|id| state.get(&format!("task/{id}")).is_none()) {
        let event =
            tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("the watch resumes");
        state.apply(&event.unwrap());
    }
    assert!(acknowledged.len() >= 20, "only {} tasks were created", acknowledged.len());
}
