//! A sandbox of the mesh, and scripts that its agent runs in it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use foundry_proto::common::v1::TurnOutcome;
use foundry_proto::repo::v1::Repository;
use foundry_tests::story::{await_turns, create_task, send, turn_ends};
use foundry_tests::{Caller, Mesh, sandboxes};

/// The sandbox of a task.
pub struct Inside {
    /// Id of the sandbox.
    pub id: String,
    session: String,
    caller: Caller,
    /// Its `/tmp`, as a directory of the host.
    tmp: PathBuf,
    turns: AtomicUsize,
}

impl Inside {
    /// Creates a task and waits until its first turn has ended.
    pub async fn create(mesh: &Mesh, caller: &Caller, repository: &Repository) -> Self {
        let (task, session) = create_task(caller, repository, "say here").await;
        await_turns(caller, &session.session_id, 1).await;
        let sandbox = sandboxes::only(caller, &task.task_id).await;
        assert!(sandbox.network.starts_with("public"), "{}", sandbox.network);
        let tmp = mesh.data().join("provisioner/sandboxes").join(&sandbox.sandbox_id).join("tmp");
        Self {
            id: sandbox.sandbox_id,
            session: session.session_id,
            caller: caller.clone(),
            tmp,
            turns: AtomicUsize::new(1),
        }
    }

    /// Lets the agent run a script; returns its output, with the exit code in the last line.
    pub async fn run(&self, script: &str) -> String {
        let turns = self.turns.fetch_add(1, Ordering::SeqCst) + 1;
        std::fs::write(self.tmp.join(format!("job-{turns}")), script).unwrap();
        let command =
            format!("run sh /tmp/job-{turns} > /tmp/out-{turns} 2>&1; echo \"exit $?\" >> /tmp/out-{turns}");
        send(&self.caller, &self.session, &command).await;
        let entries = await_turns(&self.caller, &self.session, turns).await;
        let end = turn_ends(&entries).pop().unwrap();
        assert_eq!(end.outcome(), TurnOutcome::Completed, "{script}: {end:?}");
        std::fs::read_to_string(self.tmp.join(format!("out-{turns}"))).unwrap()
    }

    /// Writes a file into its `/tmp`.
    pub fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.tmp.join(name), content).unwrap();
    }

    /// Starts a listener in the sandbox that answers with the sandbox's id.
    pub async fn listens_on_8123(&self) {
        let listener = format!(
            "import socket\nlistener = socket.create_server(('127.0.0.1', 8123))\nprint('listening', flush=True)\n\
             while True:\n    stream, _ = listener.accept()\n    stream.sendall(b'{}')\n    stream.close()\n",
            self.id
        );
        self.put("listener.py", listener.as_bytes());
        let out = self
            .run(
                ": > /tmp/listening\n\
                 setsid python3 /tmp/listener.py >> /tmp/listening 2>&1 &\n\
                 until grep -q listening /tmp/listening; do sleep 0.05; done",
            )
            .await;
        assert_eq!(out, "exit 0\n");
    }
}

/// Attempts to reach addresses that sandboxes must not reach.
pub mod attack {
    use std::process::Command;

    use serde_json::Value;

    use super::Inside;

    const SCRIPT: &str = include_str!("attack.py");

    /// The number of attempts, and those with the wrong result.
    pub struct Tried {
        pub attempts: usize,
        pub wrong: Vec<String>,
    }

    fn arguments(addresses: &[&str], ports: &[u16]) -> [String; 2] {
        [addresses.join(","), ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")]
    }

    fn read(text: &str) -> Tried {
        let line = text.lines().find(|l| l.starts_with('{')).unwrap_or_else(|| panic!("{text}"));
        let read: Value = serde_json::from_str(line).unwrap();
        let wrong =
            read["wrong"].as_array().unwrap().iter().map(|w| w.as_str().unwrap().to_owned()).collect();
        Tried { attempts: usize::try_from(read["attempts"].as_u64().unwrap()).unwrap(), wrong }
    }

    /// From the mesh's host, where every attempt must succeed.
    pub fn from_here(addresses: &[&str], ports: &[u16]) -> Tried {
        let out =
            Command::new("python3").args(["-c", SCRIPT, "here"]).args(arguments(addresses, ports)).output();
        read(&String::from_utf8_lossy(&out.unwrap().stdout))
    }

    /// From a sandbox, by every method that the script has; every attempt must fail.
    pub async fn from(sandbox: &Inside, addresses: &[&str], ports: &[u16], names: &[&str]) -> Tried {
        sandbox.put("attack.py", SCRIPT.as_bytes());
        let [addresses, ports] = arguments(addresses, ports);
        let script = format!("python3 /tmp/attack.py outside {addresses} {ports} {}", names.join(" "));
        read(&sandbox.run(&script).await)
    }
}
