//! `buf curl` as users run it, over each protocol that it can use with the gateway.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use foundry_tests::story::PATIENCE;
use prost_reflect::{DescriptorPool, DynamicMessage};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Directory of the schema, for calls without reflection.
const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto");
/// Methods of the task service that reflection must list.
const METHODS: [&str; 4] = ["CreateTask", "WatchTask", "ListFileChanges", "GetFileDiff"];

/// A protocol and the version of HTTP that it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// gRPC on HTTP/2 without TLS.
    Grpc,
    /// gRPC-Web on HTTP/2 without TLS.
    GrpcWeb,
    /// gRPC-Web on HTTP/1.1.
    GrpcWebHttp1,
}

impl Wire {
    /// Every protocol under test.
    pub const ALL: [Self; 3] = [Self::Grpc, Self::GrpcWeb, Self::GrpcWebHttp1];

    /// Arguments that select the protocol. Reflection is a bidirectional stream, for which buf uses HTTP/2 regardless
    /// of these, and then it makes the call itself over HTTP/2 too.
    const fn protocol(self) -> &'static [&'static str] {
        match self {
            Self::Grpc => &["--protocol", "grpc", "--http2-prior-knowledge"],
            Self::GrpcWeb => &["--protocol", "grpcweb", "--http2-prior-knowledge"],
            Self::GrpcWebHttp1 => &["--protocol", "grpcweb"],
        }
    }

    /// Arguments that select the source of the schema: buf stays on HTTP/1.1 only with a local schema.
    const fn schema(self) -> &'static [&'static str] {
        match self {
            Self::Grpc | Self::GrpcWeb => &["--reflect"],
            Self::GrpcWebHttp1 => &["--schema", SCHEMA],
        }
    }

    /// How a verbose run logs the version of HTTP and the content type of an answer.
    const fn signs(self) -> (&'static str, &'static str) {
        match self {
            Self::Grpc => ("HTTP/2.0", "application/grpc"),
            Self::GrpcWeb => ("HTTP/2.0", "application/grpc-web+proto"),
            Self::GrpcWebHttp1 => ("HTTP/1.1", "application/grpc-web+proto"),
        }
    }
}

/// Checks the protocol and version of HTTP of all answers in the log of a verbose run.
fn assert_answered_on(http: &str, content: &str, log: &str) {
    for (mark, expected) in [(" HTTP/", format!("{http} 200 OK")), (" Content-Type: ", content.to_owned())] {
        let answers: Vec<_> = log.lines().filter(|l| l.contains(": < ") && l.contains(mark)).collect();
        assert!(!answers.is_empty() && answers.iter().all(|l| l.ends_with(&expected)), "{expected}: {log}");
    }
}

/// Parses a message of the task service from buf's output.
pub fn decoded<T: prost::Message + Default>(name: &str, printed: Value) -> T {
    let pool = DescriptorPool::decode(foundry_proto::FILE_DESCRIPTOR_SET).unwrap();
    let message = pool.get_message_by_name(&format!("foundry.task.v1.{name}")).unwrap();
    DynamicMessage::deserialize(message, printed).unwrap().transcode_to().unwrap()
}

/// Calls the gateway with `buf curl`.
pub struct Buf<'a> {
    /// URL of the gateway.
    pub gateway: &'a str,
    /// Bearer token of the caller.
    pub token: &'a str,
    /// The protocol to use.
    pub wire: Wire,
}

impl Buf<'_> {
    fn arguments(&self, method: &str, body: &Value) -> Vec<String> {
        let mut args = vec!["curl".to_owned(), "-v".to_owned()];
        args.extend(self.wire.protocol().iter().chain(self.wire.schema()).map(|a| (*a).to_owned()));
        args.extend(["-H".to_owned(), format!("authorization: Bearer {}", self.token)]);
        args.extend(["-d".to_owned(), body.to_string()]);
        args.push(format!("{}/foundry.task.v1.TaskService/{method}", self.gateway));
        args
    }

    /// Lists the services and the methods of the task service by reflection, and checks them.
    pub fn list(&self) {
        for (what, expected) in [
            (
                "--list-services",
                ["auth.v1.AuthService", "repo.v1.RepoService", "task.v1.TaskService"].to_vec(),
            ),
            ("--list-methods", METHODS.to_vec()),
        ] {
            let mut args = vec!["curl", "-v", what];
            args.extend(self.wire.protocol());
            args.push(self.gateway);
            let (listed, log) = super::run_with_stderr("buf", &args);
            for name in expected {
                let name = if what == "--list-methods" {
                    format!("foundry.task.v1.TaskService/{name}")
                } else {
                    format!("foundry.{name}")
                };
                assert!(listed.lines().any(|l| l == name), "{name} is missing: {listed}");
            }
            assert_answered_on("HTTP/2.0", self.wire.signs().1, &log);
        }
    }

    /// Calls a method of the task service.
    pub fn call(&self, method: &str, body: &Value) -> Value {
        let args = self.arguments(method, body);
        let (answer, log) =
            super::run_with_stderr("buf", &args.iter().map(String::as_str).collect::<Vec<_>>());
        let (http, content) = self.wire.signs();
        assert_answered_on(http, content, &log);
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{method}: {e}: {answer}"))
    }

    /// Opens a watch of a task; buf's log goes to a file in `dir`.
    pub fn watch(&self, task_id: &str, dir: &Path) -> Watch {
        let log = dir.join(format!("{task_id}.watch"));
        let mut command = std::process::Command::new("buf");
        command
            .args(self.arguments("WatchTask", &serde_json::json!({ "taskId": task_id })))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .process_group(0); // what npm installs starts the real program as a child
        let mut child = Command::from(command).spawn().unwrap();
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Watch { child, group, lines, log, wire: self.wire, seq: 0 }
    }
}

/// An open watch.
pub struct Watch {
    child: Child,
    group: Pid,
    lines: Lines<BufReader<ChildStdout>>,
    log: std::path::PathBuf,
    wire: Wire,
    seq: u64,
}

impl Watch {
    /// Reads the next frame and checks its sequence number.
    async fn frame(&mut self) -> Value {
        let mut text = String::new();
        loop {
            let line = self.lines.next_line().await.unwrap();
            let Some(line) = line else {
                panic!("the watch ended: {text}{}", std::fs::read_to_string(&self.log).unwrap())
            };
            text += &line;
            // buf prints messages one after the other, indented: only the last line of one is a bare brace.
            if line == "}" {
                break;
            }
        }
        let frame: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        self.seq += 1;
        assert_eq!(frame["seq"], self.seq.to_string(), "a frame is missing or doubled: {frame}");
        frame
    }

    /// Reads frames until one meets the condition.
    pub async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                last = self.frame().await;
                if wanted(&last) {
                    return last.clone();
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("no frame is as wanted, {} seen", self.seq))
    }

    /// Kills the program, as a watch does not end by itself; returns the number of frames.
    pub async fn end(mut self) -> u64 {
        assert!(self.child.try_wait().unwrap().is_none(), "the watch ended by itself");
        kill_process_group(self.group, Signal::KILL).unwrap();
        self.child.wait().await.unwrap();
        let (http, content) = self.wire.signs();
        assert_answered_on(http, content, &std::fs::read_to_string(&self.log).unwrap());
        self.seq
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Only if the child was not reaped: otherwise its id may belong to another process.
        if self.child.id().is_some() {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }
}
