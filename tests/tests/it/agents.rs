//! One real agent through the whole mesh, on the scripted model. Gemini CLI has, with its Node, the smallest download
//! (220 MB on disk), and starts one process within seconds. `make test-agents` covers all five.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use foundry_proto::common::v1::TurnOutcome;
use foundry_proto::provisioner::v1::ListModelUsageRequest;
use foundry_proto::task::v1::{CloseSessionRequest, CreateSessionRequest, SessionState};
use foundry_scripted_model::{Script, Step};
use foundry_tests::McpServer;
use foundry_tests::agents::{GEMINI, Work, Workplace, files_with, mcp_canary, processes_with};
use foundry_tests::killing::{Moment, Victim, created_under_crashes, kill_in_a_turn};
use foundry_tests::stages::STAGES;
use foundry_tests::story::{assert_contiguous, await_session, await_task, patch, send, turn_ends, words};

/// Variable that names another directory for the agents' packages.
const TOOLS: &str = "AGENT_TOOLS";
/// The user and group `nobody` on most systems; no account is needed.
const NOBODY: u32 = 65_534;

/// Only the mesh and the model may have the key: no file, process or log contains it.
fn assert_key_is_nowhere(place: &Workplace, work: &Work) {
    let secrets = place.secrets();
    assert!(!work.processes().is_empty(), "the agent's environment is out of sight, so nothing is shown");
    assert_eq!(
        processes_with(&secrets),
        Vec::<i32>::new(),
        "the key is in the environment or the arguments of a process"
    );
    // Everything that the mesh writes is below its directory: databases, logs, sandboxes, transcripts.
    let (found, read) = files_with(place.mesh.dir(), &secrets);
    assert!(found.is_empty() && read > 20, "of {read} files, the key is in {found:?}");
    let (planted, _) = files_with(&place.mesh.dir().join("origin"), &["pub fn one()".to_owned()]);
    assert_eq!(planted.len(), 1, "the search does not find what is there");
}

/// Directory in which the agents' packages are kept between runs.
fn tools() -> PathBuf {
    std::env::var_os(TOOLS)
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools"), PathBuf::from)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_agent_writes_and_runs_with_permission_and_its_key_stays_outside() {
    let secret = mcp_canary();
    let server = McpServer::start(&secret).await;
    // The server runs on the host, which sandboxes must not reach directly.
    let hosts = format!("provisioner.mcp_hosts=[\"{}\"]", server.place());
    let mut place = Workplace::start_with(GEMINI, &tools(), &[&hosts]).await;
    place.add_mcp_server("stamps", &format!("http://{}/mcp", server.place()), &secret).await;
    let script = Script::new([
        Step::Write { file: "written.txt".to_owned(), text: "by the agent\n".to_owned() },
        Step::Run("cp written.txt copied.txt".to_owned()),
        Step::Tool { name: "stamp".to_owned(), args: serde_json::json!({ "words": "a letter" }) },
        Step::Say("All is done.".to_owned()),
    ]);
    let work = place.begin(&script).await;
    place.asks(&work).await;
    assert_key_is_nowhere(&place, &work);

    let (entries, asked) = place.finish(&work, 1).await;
    assert_contiguous(&entries);
    let end = &turn_ends(&entries)[0];
    assert_eq!(end.outcome(), TurnOutcome::Completed, "{end:?}");
    assert_eq!(asked, 3, "once each for the file, the command and the tool");
    assert!(words(&entries).contains("All is done."), "{}", words(&entries));

    let imported =
        |t: &foundry_proto::task::v1::Task| t.changes.as_ref().is_some_and(|c| c.files_changed == 2);
    await_task(&place.caller, &work.task.task_id, imported).await;
    let clone = place.origin.apply(&patch(&place.caller, &work.task.task_id).await);
    let read = |path: &str| std::fs::read_to_string(clone.path().join(path)).unwrap();
    assert_eq!((read("written.txt"), read("copied.txt")), (read("copied.txt"), "by the agent\n".to_owned()));

    let requests = place.model.all().requests();
    let working = requests.iter().filter(|r| r.has_tools).count();
    assert_eq!(working, 4, "one request for each step");
    let last = String::from_utf8_lossy(&requests[requests.len() - 1].bytes).into_owned();
    assert!(last.contains("stamped: a letter"), "the tool's answer is not in the last request: {last}");
    let asked = server.seen();
    for wanted in
        ["POST /mcp initialize", "POST /mcp the-session tools/list", "POST /mcp the-session tools/call"]
    {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(asked.iter().any(|line| words(line) == wanted), "{wanted} is not among {asked:#?}");
    }
    let token = format!("{}.", work.session_id);
    for request in &requests {
        assert_eq!(request.key.as_ref(), place.keys.last(), "{}", request.path);
        assert!(
            !format!("{:?} {:?}", request.headers, request.query).contains(&token),
            "{:?}",
            request.headers
        );
        assert!(!server.headers().contains(&token), "{}", server.headers());
        assert!(!String::from_utf8_lossy(&request.bytes).contains(&token), "{}", request.path);
    }

    let request = ListModelUsageRequest {
        organization_id: place.caller.organization_id.clone(),
        task_id: work.task.task_id.clone(),
    };
    let usage = place.caller.profiles().list_model_usage(request).await.unwrap().into_inner().usage;
    let of_session =
        usage.iter().filter(|u| u.session_id == work.session_id && u.profile_id == place.profile_id);
    let calls: i64 = of_session.clone().map(|u| u.calls).sum();
    assert_eq!(calls, requests.iter().filter(|r| r.usage.is_some()).count() as i64, "{usage:?}");
    assert!(of_session.map(|u| u.input_tokens.min(u.output_tokens)).sum::<i64>() > 0, "{usage:?}");
    assert_key_is_nowhere(&place, &work);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_mesh_runtime_or_agent_loses_and_doubles_nothing_of_a_real_agent() {
    // Only the stages in which a runtime already runs; another test covers all of them with the demo agent.
    let (place, work) = created_under_crashes(GEMINI, &tools(), &STAGES[3..], &[Moment::Within]).await;
    for (turns, victim) in [(1, Victim::Agent), (3, Victim::Runtime)] {
        let cut = kill_in_a_turn(&place, &work, turns, victim, "Done with first.").await;
        let reasons: &[&str] = match victim {
            Victim::Agent => &["AGENT_EXITED"],
            _ => &["SANDBOX_VANISHED", "AGENT_STOPPED"],
        };
        assert!(reasons.contains(&cut.end.reason.as_str()), "{victim}: {:?}", cut.end);
        assert_eq!(cut.next.outcome(), TurnOutcome::Completed, "{victim}: {:?}", cut.next);
        assert!(cut.remembers, "{victim}: what was said before is not in the next request");
        assert_eq!(cut.occurrences, 1, "{victim}: the earlier words are lost or doubled");
    }
}

/// A command that calls the model gateway from inside a sandbox, and appends the status with a mark to a file.
fn asking(mark: &str, address: &str, path: &str, token: &str) -> String {
    // The written line differs from the command line, so that the search finds only what was written.
    format!(
        "curl -s --noproxy '*' -m 10 -o /dev/null -w 'status %{{http_code}} of {mark}\\n' \
         -H 'x-goog-api-key: {token}' http://{address}{path} >> answers.txt"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refused_for_another_sandbox_after_its_end_and_for_paths_off_the_list() {
    let place = Workplace::start(GEMINI, &tools()).await;
    let hello = Script::new([Step::Say("Here.".to_owned())]);
    let one = place.begin(&hello).await;
    place.finish(&one, 1).await;
    let two = place.begin(&hello).await;
    place.finish(&two, 1).await;
    let (token, address) = one.token_and_address();
    let (other_token, other_address) = two.token_and_address();
    let models = "/v1beta/models";
    let run = async |work: &Work, turns: usize, commands: Vec<String>| {
        let script = Script::new(commands.into_iter().map(Step::Run));
        send(&place.caller, &work.session_id, &format!("Turn {turns}. {}", script.in_prompt())).await;
        let end = turn_ends(&place.finish(work, turns).await.0).pop().unwrap();
        assert_eq!(end.outcome(), TurnOutcome::Completed, "{end:?}");
    };
    let off = ["/v1beta/files", "/v1/messages/batches", "/v1beta/models/../files", "/v1/embeddings", "/"];
    let mut asked = vec![asking("own", &address, models, &token)];
    asked.extend(off.iter().map(|path| asking("off-list", &address, path, &token)));
    run(&one, 2, asked).await;
    run(
        &two,
        2,
        vec![
            asking("foreign", &other_address, models, &token),
            asking("second-own", &other_address, models, &other_token),
        ],
    )
    .await;

    // A second session in the first one's sandbox. Closing the first must invalidate its token.
    let request =
        CreateSessionRequest { task_id: one.task.task_id.clone(), ..CreateSessionRequest::default() };
    let created = place.caller.task().create_session(request).await.unwrap().into_inner().session.unwrap();
    let third = Work { task: one.task.clone(), session_id: created.session_id };
    send(&place.caller, &third.session_id, &hello.in_prompt()).await;
    place.finish(&third, 1).await;
    let close = CloseSessionRequest { session_id: one.session_id.clone(), ..CloseSessionRequest::default() };
    place.caller.task().close_session(close).await.unwrap();
    await_session(&place.caller, &one.session_id, |s| s.state() == SessionState::Closed).await;
    let (third_token, _) = third.token_and_address();
    run(
        &third,
        2,
        vec![asking("ended", &address, models, &token), asking("third-own", &address, models, &third_token)],
    )
    .await;

    let answers = answers(place.mesh.dir());
    let of = |mark: &str| -> Vec<&str> {
        let lines = answers.lines().filter(|line| line.ends_with(&format!(" of {mark}")));
        lines.filter_map(|line| line.split(' ').nth(1)).collect()
    };
    assert_eq!(
        (of("own"), of("second-own"), of("third-own")),
        (vec!["200"], vec!["200"], vec!["200"]),
        "{answers}"
    );
    assert_eq!(of("off-list"), ["404"; 5], "{answers}");
    assert_eq!((of("foreign"), of("ended")), (vec!["401"], vec!["401"]), "{answers}");
}

/// The contents of all `answers.txt` files in work trees.
fn answers(directory: &Path) -> String {
    let (found, _) = files_with(directory, &["status ".to_owned()]);
    let ours = found.iter().filter(|path| path.ends_with("/answers.txt"));
    ours.filter_map(|path| std::fs::read_to_string(path).ok()).collect()
}

/// The test above as a user other than root: sandboxes then have a user namespace instead of a user of their own. The
/// whole test runs as that user, with copies of files that it could not read.
#[test]
fn an_unprivileged_user_has_the_same_from_a_real_agent() {
    if !rustix::process::geteuid().is_root() {
        return; // the test above has just covered that
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), at("story")).unwrap();
    std::fs::copy(foundry_tests::mesh::binary(), at("foundry")).unwrap();
    for directory in ["home", "tmp"] {
        std::fs::create_dir(at(directory)).unwrap();
        chown(at(directory), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    // Reuses the packages that the other test has already downloaded.
    std::fs::create_dir_all(tools()).unwrap();
    let copied = Command::new("cp").arg("-a").arg(tools()).arg(at("tools")).status().unwrap();
    let given =
        Command::new("chown").args(["-R", &format!("{NOBODY}:{NOBODY}")]).arg(at("tools")).status().unwrap();
    assert!(copied.success() && given.success());
    chown(place.path(), Some(NOBODY), Some(NOBODY)).unwrap();

    let story = "agents::a_real_agent_writes_and_runs_with_permission_and_its_key_stays_outside";
    let out = Command::new(at("story"))
        .args(["--exact", story, "--nocapture"])
        .current_dir(place.path())
        .env("HOME", at("home"))
        .env("TMPDIR", at("tmp"))
        .env("FOUNDRY_BIN", at("foundry"))
        .env(TOOLS, at("tools"))
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}\n{said}\n{}", out.status, String::from_utf8_lossy(&out.stderr));
    assert!(said.contains("1 passed"), "{said}");
}
