//! A hand-over of 30,000 files and one of 70 MB: neither the mesh nor the runtime of the sandbox holds them in memory.

use std::path::Path;

use foundry_proto::task::v1::TaskState;
use foundry_tests::story::{await_task_within, create_task, register};
use foundry_tests::{Mesh, Origin, Shape};

use super::{PATIENCE, ROOM, memory, memory_of};

/// What the runtime of a sandbox may need, whatever the size of the work.
const ROOM_OF_A_RUNTIME: u64 = 64 << 20;

/// The processes of sandboxes, which are started with a path in the data directory.
fn runtimes(data: &Path) -> Vec<u32> {
    let needle = data.display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_runtime = |id: &u32| {
        let command = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        command.contains(&needle) && command.contains("runtime")
    };
    ids.filter(is_runtime).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_work_is_handed_over_in_little_memory() {
    let mesh = Mesh::start(Shape::Embedded, &[]);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    std::fs::write(format!("/proc/{}/clear_refs", mesh.pids()[0]), "5").unwrap();
    let resident = memory(&mesh, "VmRSS");
    let prompt = "run mkdir many && seq 100000 129999 | split -l 1 -a 4 - many/f && head -c 70000000 /dev/urandom > big && echo more >> README.md";
    let (task, _) = create_task(&caller, &repository, prompt).await;
    let task = await_task_within(PATIENCE, &caller, &task.task_id, |t| {
        t.state() == TaskState::Idle && t.changes.as_ref().is_some_and(|c| c.files_changed > 0)
    })
    .await;
    let changes = task.changes.unwrap();
    let (peak, of_runtimes) = (memory(&mesh, "VmHWM"), runtimes(&mesh.data()));
    let largest = of_runtimes.iter().map(|id| memory_of(*id, "VmHWM")).max();
    println!(
        "{} files, {} MiB before, {} MiB at most, runtimes {:?} KiB",
        changes.files_changed,
        resident >> 20,
        peak >> 20,
        largest.map(|bytes| bytes >> 10)
    );
    assert_eq!(changes.files_changed, 30_001);
    assert!(peak < resident + ROOM, "memory grew from {} to {} MiB", resident >> 20, peak >> 20);
    let largest = largest.expect("the runtime of the sandbox");
    assert!(largest < ROOM_OF_A_RUNTIME, "a runtime had {} MiB", largest >> 20);
}
