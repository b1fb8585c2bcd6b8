use foundry_sandbox::tap::record::Entry;
use foundry_sandbox::wire::Exec;
use rustix::process::{Pid, Signal, kill_process};

use crate::talk::{Talk, prompt, scripted};
use crate::world::{World, eventually, gone};

#[tokio::test]
async fn an_agent_does_not_outlive_a_runtime_that_was_killed() {
    let mut world = World::new();
    let (mut talk, _) = Talk::start(&world.caller().await, "agt_1", &scripted("run1/1")).await;
    talk.tell(&prompt("m1", "deaf")).await;
    talk.until(|e| matches!(e, Entry::Message { .. })).await;
    let agents = world.running("scripted-agent");
    assert_eq!(agents.len(), 1);
    world.kill();
    gone("the agent is gone", &agents[0]).await;
}

#[tokio::test]
async fn ends_its_agents_and_commands_when_it_is_asked_to_end() {
    let mut world = World::new();
    let caller = world.caller().await;
    let (mut talk, _) = Talk::start(&caller, "agt_1", &scripted("run1/1")).await;
    talk.turn("m1", "hello").await;
    let exec = Exec {
        argv: ["sh", "-c", "setsid -f sleep 621; sleep 622"].map(str::to_owned).to_vec(),
        limit_ms: 60_000,
        ..Exec::default()
    };
    let running = caller.clone();
    let call = async move {
        // The runtime exits while it runs.
        let stream = running.place.connect().await;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        let body = http_body_util::Full::new(bytes::Bytes::from(serde_json::to_vec(&exec).unwrap()));
        let request = http::Request::post("/v1/exec")
            .header("authorization", &running.authorization)
            .body(body)
            .unwrap();
        let (answer, _) = tokio::join!(sender.send_request(request), connection);
        answer.is_err()
    };
    let pid = Pid::from_raw(world.pid()).unwrap();
    let end = async {
        eventually("the command runs", async || (world.running("sleep 62").len() >= 3).then_some(())).await;
        let all: Vec<_> =
            world.running("sleep 62").into_iter().chain(world.running("scripted-agent")).collect();
        kill_process(pid, Signal::TERM).unwrap();
        for process in &all {
            gone("every process exits", process).await;
        }
    };
    let (refused, ()) = tokio::join!(call, end);
    assert!(refused);
    let status = eventually("it ends", async || world.runtime.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
    let log = std::fs::read_to_string(world.home().join(".foundry/tap/agt_1.log")).unwrap();
    assert!(log.lines().last().unwrap().contains("\"kind\":\"exit\""), "{log}");
}
