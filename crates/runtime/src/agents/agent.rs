//! One agent process: start, conversation, end of its whole process tree.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foundry_core::{Tasks, lock};
use foundry_sandbox::process::ProcessRef;
use foundry_sandbox::tap::MAX_MESSAGE;
use foundry_sandbox::tap::record::Entry;
use foundry_sandbox::wire::{AGENT_VARIABLE, AgentStatus, Outcome};
use foundry_sandbox::{AcpId, SandboxName};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::input::Input;
use super::stderr::{self, LastLine};
use super::tree::ProcessTree;
use crate::error::{Failure, Kind};
use crate::logs::Logs;
use crate::program;
use crate::tap::filter::{Filter, ToAgent};
use crate::tap::lines::{Line, next_line};

/// Time for the agent to exit after its input was closed; then SIGTERM.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Time after SIGTERM; then SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(3);
/// Time for killed processes to disappear.
const KILL_GRACE: Duration = Duration::from_secs(3);
/// How long the end of the agent's output is awaited when another process holds the pipe open.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// Interval between two rounds of killing.
const LOOK: Duration = Duration::from_millis(20);

/// Parameters of a start.
pub(crate) struct Spec {
    pub acp: AcpId,
    pub sandbox: SandboxName,
    pub instance: String,
    pub agent: String,
    pub attempt: String,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub directory: PathBuf,
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

/// An agent process.
pub(crate) struct Agent {
    acp: AcpId,
    sandbox: SandboxName,
    agent: String,
    pub attempt: String,
    pub process: ProcessRef,
    pub log_offset: u64,
    /// The conversation; none = the agent has ended and the log is closed.
    talk: Mutex<Option<Talk>>,
    stderr: LastLine,
    ended: watch::Sender<Option<Ended>>,
}

struct Talk {
    filter: Filter<File>,
    input: Input,
}

impl Agent {
    /// Starts it. Must be called on the main thread: the kernel kills the agent when the calling thread
    /// ends.
    pub fn start(
        spec: Spec,
        filter: Filter<File>,
        logs: &Arc<Logs>,
        tasks: &Tasks,
    ) -> Result<Arc<Self>, Failure> {
        let failed = |e: io::Error| Failure::io("starting the agent", e);
        let (stdin, to_agent) = io::pipe().map_err(failed)?;
        let (from_agent, stdout) = io::pipe().map_err(failed)?;
        let (stderr_end, stderr) = io::pipe().map_err(failed)?;
        let mut command = Command::new(program::OWN);
        command
            .arg0(program::NAME)
            .args(["internal", "tied", &std::process::id().to_string(), "--"])
            .args(&spec.argv)
            .envs(&spec.env)
            .env(AGENT_VARIABLE, spec.acp.as_str())
            .current_dir(&spec.directory)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true);
        let child = command.spawn().map_err(failed)?;
        // Closes this process's copies of the pipe ends and frees the environment.
        drop(command);
        let pid = child.id().map_or(0, u32::cast_signed);
        let process = ProcessRef::of(pid).map_err(failed)?;
        let (closed, input_closed) = watch::channel(false);
        let input = Input::to(to_agent, closed).map_err(failed)?;
        let stderr = stderr::copy(&spec.acp, stderr_end).map_err(failed)?;
        let mut talk = Talk { filter, input };
        let log_offset = talk.filter.log.length();
        talk.filter.log.append(Entry::Instance {
            runtime_instance: spec.instance,
            agent: spec.agent.clone(),
            pid: pid.cast_unsigned(),
        });
        logs.grew(&spec.acp);
        let agent = Arc::new(Self {
            acp: spec.acp,
            sandbox: spec.sandbox,
            agent: spec.agent,
            attempt: spec.attempt,
            process,
            log_offset,
            talk: Mutex::new(Some(talk)),
            stderr,
            ended: watch::channel(None).0,
        });
        let output_end = Arc::clone(&agent).listen(from_agent, Arc::clone(logs)).map_err(failed)?;
        let ending = Arc::clone(&agent).wait(child, input_closed, output_end, Arc::clone(logs));
        tasks.spawn("agent", ending);
        Ok(agent)
    }

    /// Starts the thread that records the agent's output. The channel closes at the end of the output.
    fn listen(
        self: Arc<Self>,
        from: io::PipeReader,
        logs: Arc<Logs>,
    ) -> io::Result<tokio::sync::oneshot::Receiver<()>> {
        let (done, output_end) = tokio::sync::oneshot::channel();
        let work = move || {
            // A read error is the end of the output as well.
            let _ = self.record(from, &logs);
            let _ = done.send(());
        };
        std::thread::Builder::new().name("agent output".to_owned()).spawn(work)?;
        Ok(output_end)
    }

    fn record(&self, from: io::PipeReader, logs: &Logs) -> io::Result<()> {
        let mut output = BufReader::with_capacity(1 << 16, from);
        while let Some(line) = next_line(&mut output, MAX_MESSAGE)? {
            let mut talk = lock(&self.talk);
            let Some(talk) = talk.as_mut() else { return Ok(()) };
            match line {
                Line::Whole(line) => {
                    if let Some(answer) = talk.filter.agent_said(&line) {
                        talk.input.push_answer(answer);
                    }
                }
                Line::TooLong(bytes) => talk.filter.too_long(bytes),
            }
            logs.grew(&self.acp);
        }
        Ok(())
    }

    /// Waits for the agent's exit and records it.
    async fn wait(
        self: Arc<Self>,
        mut child: Child,
        mut input_closed: watch::Receiver<bool>,
        output_end: tokio::sync::oneshot::Receiver<()>,
        logs: Arc<Logs>,
    ) {
        let without_input = async {
            if input_closed.wait_for(|closed| *closed).await.is_err() {
                std::future::pending::<()>().await;
            }
            // An agent without input is useless: it gets the same time as one that is being stopped.
            tokio::time::sleep(CLOSE_GRACE + TERM_GRACE).await;
        };
        let status = tokio::select! {
            status = child.wait() => status,
            () = without_input => {
                let _ = self.process.kill();
                child.wait().await
            }
        };
        // A native child of a wrapper would run on without a conversation.
        self.kill_session();
        let _ = tokio::time::timeout(LAST_OUTPUT, output_end).await;
        let ended = status.map_or(Ended { code: None, signal: None }, |s: ExitStatus| Ended {
            code: s.code(),
            signal: s.signal(),
        });
        if let Some(mut talk) = lock(&self.talk).take() {
            talk.filter.log.append(Entry::Exit { code: ended.code, signal: ended.signal });
        }
        logs.grew(&self.acp);
        self.ended.send_replace(Some(ended));
    }

    fn kill_session(&self) {
        let tree = ProcessTree::of(self.process.clone(), &self.acp, &self.sandbox);
        for process in tree.session() {
            // It may have exited in the meantime.
            let _ = process.kill();
        }
    }

    /// Records a message and queues it for the agent.
    pub fn pass_on(&self, message: &[u8], logs: &Logs) -> Result<Outcome, Failure> {
        let mut talk = lock(&self.talk);
        let Some(talk) = talk.as_mut().filter(|t| t.input.is_open()) else {
            return Err(Failure::new(Kind::AgentEnded, self.how_it_ended()));
        };
        if !talk.input.has_room(message.len()) {
            return Err(Failure::new(Kind::Busy, "the agent does not read its input"));
        }
        let verdict = talk.filter.accept(message);
        logs.grew(&self.acp);
        match verdict {
            ToAgent::Pass(line) => {
                talk.input.push(line);
                Ok(Outcome::PassedOn)
            }
            ToAgent::Duplicate => Ok(Outcome::Duplicate),
            ToAgent::Unrecorded => {
                Err(Failure::new(Kind::LogUnwritable, "the log of this conversation cannot be written"))
            }
            ToAgent::Malformed => Err(Failure::invalid("the body is not a JSON-RPC message")),
            ToAgent::NoGateway => Err(Failure::new(Kind::StartFailed, program::NO_GATEWAY)),
        }
    }

    fn how_it_ended(&self) -> String {
        let ended = *self.ended.borrow();
        let how = match ended {
            Some(Ended { code: Some(code), .. }) => format!("the agent exited with code {code}"),
            Some(Ended { signal: Some(signal), .. }) => {
                format!("the agent was terminated by signal {signal}")
            }
            Some(_) => "the agent exited".to_owned(),
            None => "the agent is being terminated".to_owned(),
        };
        match self.stderr.get() {
            line if line.is_empty() => how,
            line => format!("{how}; last line of its standard error: {line}"),
        }
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Its entry in the list of agents.
    pub fn status(&self) -> AgentStatus {
        let ended = *self.ended.borrow();
        AgentStatus {
            acp: self.acp.to_string(),
            agent: self.agent.clone(),
            attempt: self.attempt.clone(),
            pid: self.process.pid,
            running: ended.is_none(),
            exit_code: ended.and_then(|e| e.code),
            signal: ended.and_then(|e| e.signal),
        }
    }

    /// Ends its process tree: closes its input, SIGTERM after 2 s, SIGKILL after 5 s.
    ///
    /// # Errors
    /// `io` when a process is still there after 8 s.
    pub async fn end(&self) -> Result<(), Failure> {
        let mut tree = ProcessTree::of(self.process.clone(), &self.acp, &self.sandbox);
        tree.living();
        if let Some(talk) = lock(&self.talk).as_mut() {
            talk.input.close();
        }
        if !self.ends_within(CLOSE_GRACE).await {
            tree.living();
            self.terminate();
            self.ends_within(TERM_GRACE).await;
        }
        let killed = tokio::time::timeout(KILL_GRACE, async {
            loop {
                let living = tree.living();
                if living.is_empty() && !self.is_running() {
                    return;
                }
                for process in living {
                    // It may have exited in the meantime.
                    let _ = process.kill();
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        killed.await.map_err(|_| Failure::io("ending the agent", "it cannot be killed"))
    }

    async fn ends_within(&self, limit: Duration) -> bool {
        let mut ended = self.ended.subscribe();
        tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await.is_ok_and(|e| e.is_ok())
    }

    /// The process group keeps its number until the agent was reaped.
    fn terminate(&self) {
        if let Some(pid) = Pid::from_raw(self.process.pid).filter(|_| self.is_running()) {
            // It may have exited in the meantime.
            let _ = kill_process_group(pid, Signal::TERM);
        }
    }
}
