//! The agent as a process of its own on real pipes: how it ends, and that its commands end with it.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// The agent as a program, built beside the tests.
fn program() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let program = exe.parent().unwrap().parent().unwrap().join("examples/demo-agent");
    assert!(program.is_file(), "build the examples too: cargo build --workspace --examples");
    program
}

struct Agent {
    child: Child,
    to: Option<ChildStdin>,
    lines: Box<dyn Iterator<Item = String>>,
    dir: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let mut child = Command::new(program())
            .env("FOUNDRY_DEMO_AGENT_SECOND_MS", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut agent = Self { child, to, lines: Box::new(lines), dir: tempfile::tempdir().unwrap() };
        agent.send(1, "initialize", &serde_json::json!({ "protocolVersion": 1 }));
        let cwd = agent.dir.path().to_owned();
        agent.send(2, "session/new", &serde_json::json!({ "cwd": cwd, "mcpServers": [] }));
        agent.until("\"sessionId\":\"session-1\"");
        agent
    }

    fn send(&mut self, id: u64, method: &str, params: &serde_json::Value) {
        let line = serde_json::json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        writeln!(self.to.as_mut().unwrap(), "{line}").unwrap();
    }

    fn prompt(&mut self, text: &str) {
        let prompt = serde_json::json!([{ "type": "text", "text": text }]);
        self.send(3, "session/prompt", &serde_json::json!({ "sessionId": "session-1", "prompt": prompt }));
    }

    fn until(&mut self, part: &str) {
        assert!(self.lines.any(|line| line.contains(part)), "the agent ended without {part}");
    }

    fn status(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

#[test]
fn exits_with_0_when_its_input_ends() {
    let mut agent = Agent::start();
    agent.prompt("wait 60 seconds\nslowly say one two three four five six\nhang");
    agent.until("The prompt says to");
    agent.to = None;
    agent.until("\"stopReason\":\"cancelled\"");
    assert_eq!(agent.status(), Some(0));
}

#[test]
fn exits_with_42_when_it_crashes_in_the_middle_of_a_turn() {
    let mut agent = Agent::start();
    agent.prompt("write kept.txt: kept\ncrash");
    agent.until("so I crash.");
    assert_eq!(agent.lines.next(), None, "nothing comes after a crash");
    assert_eq!(agent.status(), Some(42));
    assert_eq!(std::fs::read_to_string(agent.dir.path().join("kept.txt")).unwrap(), "kept\n");
}

#[test]
fn ends_its_command_and_exits_with_0_when_it_is_terminated() {
    let mut agent = Agent::start();
    agent.prompt("run echo $$ > pid; echo up; sleep 1000");
    agent.until("up\\n");
    let pid = std::fs::read_to_string(agent.dir.path().join("pid")).unwrap();
    let command =
        pidfd_open(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    kill_process(Pid::from_child(&agent.child), Signal::TERM).unwrap();
    assert_eq!(agent.status(), Some(0));
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    let mut ended = [PollFd::from_borrowed_fd(command.as_fd(), PollFlags::IN)];
    assert_eq!(poll(&mut ended, Some(&limit)).unwrap(), 1, "the command outlived the agent");
}
