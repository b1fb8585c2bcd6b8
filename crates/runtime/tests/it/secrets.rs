use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use foundry_sandbox::wire::{AgentStart, Exec, ExecDone};

use crate::caller::Caller;
use crate::talk::{Talk, scripted};
use crate::world::{Options, World};

const SECRET: &str = "sk-very-secret";

async fn shell(caller: &Caller, script: &str) -> (Option<i32>, String) {
    let exec = Exec {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        limit_ms: 20_000,
        max_output: 1 << 20,
        ..Exec::default()
    };
    let done: ExecDone = caller.post("/v1/exec", &exec).await.ok();
    let said = BASE64_STANDARD.decode(done.stdout + &done.stderr);
    (done.exit_code, String::from_utf8_lossy(&said.unwrap()).into_owned())
}

#[tokio::test]
async fn gives_a_secret_to_the_agent_and_writes_it_nowhere() {
    let world = World::new();
    let caller = world.caller().await;
    let env = BTreeMap::from([("MODEL_KEY".to_owned(), SECRET.to_owned())]);
    let (mut talk, started) = Talk::start(&caller, "agt_1", &AgentStart { env, ..scripted("run1/1") }).await;
    talk.turn("m1", "hello").await;
    // The pattern does not find itself.
    let files = shell(&caller, "grep -rl 'sk-very-secre[t]' \"$HOME\" .; exit 0").await;
    assert_eq!(files, (Some(0), String::new()));
    let holders: Vec<i32> = world
        .running("")
        .into_iter()
        .map(|p| p.pid)
        .chain([world.pid()])
        .filter(|pid| {
            let proc = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let all = [proc("environ"), proc("cmdline")].concat();
            String::from_utf8_lossy(&all).contains(SECRET)
        })
        .collect();
    assert_eq!(holders, [started.pid]);
    assert_eq!(talk.says("m2", "env MODEL_KEY").await, format!("env Some({SECRET:?})"));
}

#[tokio::test]
async fn processes_of_the_same_user_cannot_inspect_the_runtime() {
    let world = World::with(Options { unprivileged: true, ..Options::default() });
    let caller = world.caller().await;
    let agent = scripted("run1/1");
    // The scripted agent may lie in a directory that another user cannot enter.
    let agent = AgentStart { argv: vec!["cat".into()], ..agent };
    let (_, started) = Talk::start(&caller, "agt_1", &agent).await;
    for part in ["environ", "mem", "maps", "fd/0", "auxv"] {
        let look = |pid: i32| format!("head -c 1 < /proc/{pid}/{part} > /dev/null");
        let (code, said) = shell(&caller, &look(world.pid())).await;
        assert!(code != Some(0) && said.contains("denied"), "{part}: {code:?} {said}");
    }
    let seen = shell(&caller, &format!("head -c 1 < /proc/{}/environ > /dev/null", started.pid)).await;
    assert_eq!(seen, (Some(0), String::new()), "an ordinary process can be inspected");
}
