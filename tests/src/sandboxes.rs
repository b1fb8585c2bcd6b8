//! The sandboxes of a mesh, as the provisioner lists them and as processes of the host.

use std::path::PathBuf;

use foundry_proto::common::v1::{Stage, StageState};
use foundry_proto::provisioner::v1::{
    AgentSession, GetSandboxRequest, ListSandboxesRequest, Sandbox, SandboxItem, WatchSandboxRequest,
    sandbox_item,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::story::{Opening, await_item};
use crate::{Caller, Mesh};

/// The processes of a sandbox's runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// The outermost process; when it ends, the sandbox ends.
    pub pid: i32,
    /// The runtime's server inside it; 0 = not found.
    pub server: i32,
}

/// The sandboxes of a task that are not destroyed.
///
/// # Panics
/// When they cannot be listed.
pub async fn of_task(caller: &Caller, task_id: &str) -> Vec<Sandbox> {
    let request = ListSandboxesRequest {
        organization_id: caller.organization_id.clone(),
        page_size: 500,
        ..ListSandboxesRequest::default()
    };
    let listed = caller.provisioner().list_sandboxes(request).await.expect("sandboxes").into_inner();
    listed.sandboxes.into_iter().filter(|s| s.task_id == task_id).collect()
}

/// The only sandbox of a task that is not destroyed.
///
/// # Panics
/// When there is none, or more than one.
pub async fn only(caller: &Caller, task_id: &str) -> Sandbox {
    let mut all = of_task(caller, task_id).await;
    assert_eq!(all.len(), 1, "exactly one sandbox must belong to a task: {all:#?}");
    all.remove(0)
}

async fn await_either(
    caller: &Caller,
    sandbox_id: &str,
    key: &str,
    wanted: impl Fn(&sandbox_item::Item) -> bool,
) -> sandbox_item::Item {
    let (client, id) = (caller.provisioner(), sandbox_id.to_owned());
    let open = move |options| -> Opening {
        let (mut client, sandbox_id) = (client.clone(), id.clone());
        Box::pin(async move {
            let request = WatchSandboxRequest { options: Some(options), sandbox_id };
            Ok(client.watch_sandbox(request).await?.into_inner())
        })
    };
    let wanted = |item: &SandboxItem| item.item.as_ref().is_some_and(&wanted);
    await_item::<SandboxItem>("sandbox", open, key, wanted).await.item.expect("an item")
}

/// Waits until a sandbox meets a condition.
///
/// # Panics
/// When it does not in time.
pub async fn await_sandbox(caller: &Caller, sandbox_id: &str, wanted: impl Fn(&Sandbox) -> bool) -> Sandbox {
    let wanted = |item: &sandbox_item::Item| matches!(item, sandbox_item::Item::Sandbox(s) if wanted(s));
    let item = await_either(caller, sandbox_id, &format!("sandbox/{sandbox_id}"), wanted).await;
    let sandbox_item::Item::Sandbox(sandbox) = item else { panic!("no sandbox") };
    sandbox
}

/// Waits until a stage of an agent session runs in at least this attempt.
///
/// # Panics
/// When it does not in time.
pub async fn await_agent_stage(
    caller: &Caller,
    sandbox_id: &str,
    session_id: &str,
    stage: &str,
    attempt: i32,
) -> AgentSession {
    let runs = |s: &AgentSession| {
        let running = |of: &Stage| of.name == stage && of.state() == StageState::Running;
        s.stages.iter().any(|of| running(of) && of.attempts >= attempt)
    };
    let wanted = |item: &sandbox_item::Item| matches!(item, sandbox_item::Item::AgentSession(s) if runs(s));
    let item = await_either(caller, sandbox_id, &format!("session/{session_id}"), wanted).await;
    let sandbox_item::Item::AgentSession(session) = item else { panic!("no agent session") };
    session
}

/// Reads the stored state of a sandbox.
///
/// # Panics
/// When it cannot be read.
pub async fn get(caller: &Caller, sandbox_id: &str) -> Sandbox {
    let request = GetSandboxRequest { sandbox_id: sandbox_id.to_owned() };
    caller.provisioner().get_sandbox(request).await.expect("sandbox").into_inner().sandbox.expect("sandbox")
}

fn directory(mesh: &Mesh, sandbox_id: &str) -> PathBuf {
    mesh.data().join("provisioner/sandboxes").join(sandbox_id)
}

fn command_line(pid: i32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

fn is_below(pid: i32, ancestor: i32) -> bool {
    let mut at = Some(pid);
    while let Some(pid) = at.filter(|pid| *pid > 1) {
        if pid == ancestor {
            return true;
        }
        at = parent(pid);
    }
    false
}

/// The runtimes of a sandbox as processes of the host: process trees whose command line contains the sandbox's own
/// directory, below this mesh's fresh temporary one.
pub fn runtimes(mesh: &Mesh, sandbox_id: &str) -> Vec<Runtime> {
    let directory = directory(mesh, sandbox_id).display().to_string();
    let all = processes();
    let named = |pid: i32| command_line(pid).contains(&directory);
    let roots = all.iter().copied().filter(|pid| named(*pid) && !parent(*pid).is_some_and(named));
    roots
        .map(|root| {
            let is_server = |pid: i32| {
                let line = command_line(pid);
                line.contains("internal runtime") && !line.contains("bwrap") && is_below(pid, root)
            };
            // A process that it is just starting still has its command line, and may have a smaller id.
            let server =
                all.iter().copied().find(|pid| is_server(*pid) && !parent(*pid).is_some_and(is_server));
            Runtime { pid: root, server: server.unwrap_or(0) }
        })
        .collect()
}

/// The only runtime of a sandbox.
///
/// # Panics
/// When there is none, or more than one.
pub fn runtime(mesh: &Mesh, sandbox_id: &str) -> Runtime {
    let mut all = runtimes(mesh, sandbox_id);
    assert_eq!(all.len(), 1, "exactly one runtime must run for {sandbox_id}: {all:?}");
    all.remove(0)
}

/// Sends a signal to a process of this sandbox; refuses any other process.
///
/// # Panics
/// When the process is not below the sandbox's runtime.
pub fn signal(mesh: &Mesh, sandbox_id: &str, pid: i32, signal: Signal) {
    let ours = runtimes(mesh, sandbox_id).iter().any(|runtime| is_below(pid, runtime.pid));
    assert!(ours, "process {pid} is not of sandbox {sandbox_id}");
    kill_process(Pid::from_raw(pid).expect("a process id"), signal).expect("signal");
}
