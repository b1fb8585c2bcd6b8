//! Limits on a sandbox's use of its host, as its users see them.

use foundry_proto::common::v1::{NoticeKind, TurnOutcome, transcript_part::Body};
use foundry_proto::provisioner::v1::ListProvidersRequest;
use foundry_proto::task::v1::TranscriptEntry;
use foundry_tests::story::{
    await_session, await_transcript, await_turns, create_task, register, send, turn_ends, words,
};
use foundry_tests::{Mesh, Origin, Shape, sandboxes};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const LIMITS: [&str; 5] = [
    "provisioner.local.limits.processes=200",
    "provisioner.local.limits.memory_bytes=536870912",
    "provisioner.local.limits.disk_bytes=1073741824",
    "provisioner.local.limits.disk_files=20000",
    "provisioner.local.limits.descriptors=1024",
];
/// Allocates 3 GiB, far above the limit.
const HOG: &str = "run python3 -c \"x = [bytearray(16 << 20) for _ in range(192)]\"; echo the end: $?";

fn limit_notices(entries: &[TranscriptEntry]) -> Vec<String> {
    let notices = entries.iter().filter_map(|e| match e.part.as_ref()?.body.as_ref()? {
        Body::Notice(n) if n.kind() == NoticeKind::LimitReached => Some(n.message.clone()),
        _ => None,
    });
    notices.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reached_limit_is_told_with_its_figure_and_the_next_message_works() {
    // The soft limit of most shells, which the mesh must raise.
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(1_024), maximum: most }).unwrap();
    let mesh = Mesh::start(Shape::Embedded, &LIMITS);
    let own = std::fs::read_to_string(format!("/proc/{}/limits", mesh.pids()[0])).unwrap();
    let own: Vec<_> =
        own.lines().find_map(|l| l.strip_prefix("Max open files")).unwrap().split_whitespace().collect();
    assert!(own[0] == own[1] && own[0] != "1024", "{own:?}");
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    mesh.cli_ok(&["login", "--login", "ada"]);
    let (task, session) = create_task(&caller, &repository, HOG).await;
    let id = session.session_id;

    let entries = await_turns(&caller, &id, 1).await;
    assert_eq!(turn_ends(&entries)[0].outcome(), TurnOutcome::Completed, "the agent itself goes on");
    let limited = await_session(&caller, &id, |s| {
        s.condition.as_ref().is_some_and(|c| c.reason == "SANDBOX_MEMORY_LIMIT")
    })
    .await;
    // The condition lasts only half a minute: check first what depends on it.
    let sandbox = sandboxes::only(&caller, &task.task_id).await;
    let shown = mesh.cli_ok(&["sandbox", "show", &sandbox.sandbox_id]);
    assert!(shown.contains("SANDBOX_MEMORY_LIMIT") && shown.contains("1,024 descriptors"), "{shown}");
    let explained = mesh.cli_ok(&["task", "explain", &task.task_id]);
    assert!(explained.contains("SANDBOX_MEMORY_LIMIT"), "{explained}");
    let condition = limited.condition.unwrap();
    assert!(condition.message.contains("512.0 MiB of memory"), "{condition:?}");
    assert!(
        condition.since_time.is_some() && condition.next_action.contains("memory_bytes"),
        "{condition:?}"
    );
    assert!(sandbox.limits.starts_with("200 processes, 512.0 MiB of memory, 1.0 GiB on disk"), "{sandbox:?}");

    send(&caller, &id, "say still here").await;
    let entries = await_turns(&caller, &id, 2).await;
    assert!(words(&entries).contains("still here"));
    // The condition ends after a while; the notice stays in the transcript, exactly once.
    await_session(&caller, &id, |s| s.condition.as_ref().is_none_or(|c| c.reason.is_empty())).await;
    let entries = await_transcript(&caller, &id, 0, |entries| !limit_notices(entries).is_empty()).await;
    assert_eq!(limit_notices(&entries).len(), 1, "{:?}", limit_notices(&entries));
    // The sandbox shows the limit for a while after it was last reached.
    sandboxes::await_sandbox(&caller, &sandbox.sandbox_id, |s| s.reached_limits.is_empty()).await;

    let providers = caller.provisioner().list_providers(ListProvidersRequest {}).await.unwrap().into_inner();
    let local = providers.providers.iter().find(|p| p.name == "local").unwrap();
    assert!(local.limits.contains("cgroups") || local.limits.contains("measured"), "{local:?}");
}
