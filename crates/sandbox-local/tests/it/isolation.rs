//! What a sandbox can see and do with bubblewrap, and how work is handed out of it.

use std::time::Duration;

use foundry_core::Env;
use foundry_runtime_client::{ExecSpec, RuntimeClient};
use foundry_sandbox::{Isolation, Provider as _, RuntimeFacts};
use foundry_sandbox_local::{IsolationMode, LocalProvider};

use crate::common::{Host, WAYS, eventually, name, open, process, processes_of, ready, sh};

/// What a script does in a sandbox.
struct Inside<'a> {
    host: &'a Host,
    provider: &'a LocalProvider,
}

impl Inside<'_> {
    async fn run(&self, facts: &RuntimeFacts, script: &str) -> foundry_runtime_client::ExecOutput {
        crate::common::run(&self.client(facts), script).await
    }

    fn client(&self, facts: &RuntimeFacts) -> RuntimeClient {
        self.host.client(self.provider, facts)
    }
}

#[tokio::test]
async fn hides_the_data_directory_the_host_and_every_other_sandbox() {
    let host = Host::new(IsolationMode::Auto);
    let data = host.dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("foundry.db"), "the truth").unwrap();
    let provider = host.provider().await;
    let inside = Inside { host: &host, provider: &provider };
    if !provider.isolation().unwrap().is_bubblewrap() {
        eprintln!("skipped: {:?}", provider.isolation().unwrap());
        return;
    }
    let (one, two) = (name(), name());
    let (facts_one, _) = ready(&host, &provider, &one).await;
    let (facts_two, _) = ready(&host, &provider, &two).await;
    assert_eq!(
        inside
            .run(
                &facts_one,
                "echo mine > /workspace/secret; echo mine > $HOME/secret; echo mine > /tmp/secret"
            )
            .await
            .exit_code,
        Some(0)
    );

    let other = inside
        .run(&facts_two, "cat /workspace/secret $HOME/secret /tmp/secret; ls /proc | grep -c '^[0-9]'")
        .await;
    assert!(!other.stdout.contains("mine"), "{other:?}");
    let processes: u32 = other.stdout.trim().parse().unwrap();
    assert!(processes < 10, "only its own processes: {other:?}");
    let path = data.join("foundry.db");
    for hidden in
        [path.to_str().unwrap(), host.root().to_str().unwrap(), "/root", "/etc/shadow", "/proc/1/root/root"]
    {
        let out = inside.run(&facts_two, &format!("ls {hidden}")).await;
        assert_ne!(out.exit_code, Some(0), "{hidden} is visible: {out:?}");
    }
    let words = inside.run(&facts_two, "echo \"$FOUNDRY_SECRET$CARGO_MANIFEST_DIR\"").await;
    assert_eq!(words.stdout.trim(), "", "nothing of our own environment");
    for name in [one, two] {
        provider.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn writes_to_workspace_home_and_tmp_only_and_has_no_power() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let inside = Inside { host: &host, provider: &provider };
    if !provider.isolation().unwrap().is_bubblewrap() {
        eprintln!("skipped: {:?}", provider.isolation().unwrap());
        return;
    }
    let name = name();
    let (facts, _) = ready(&host, &provider, &name).await;
    for place in ["/workspace", "$HOME", "/tmp", "/var/tmp", "/dev/shm"] {
        let out = inside.run(&facts, &format!("echo x > {place}/f")).await;
        assert_eq!(out.exit_code, Some(0), "{place}: {out:?}");
    }
    for place in ["/", "/usr", "/usr/local/bin", "/etc", "/opt/foundry/bin", "/opt/foundry/tools", "/home"] {
        let out = inside.run(&facts, &format!("echo x > {place}/f")).await;
        assert_ne!(out.exit_code, Some(0), "{place} is writable: {out:?}");
    }
    let out = inside.run(&facts, "echo x > /opt/foundry/bin/foundry || grep -E '^Cap(Prm|Eff)|^NoNewPrivs' /proc/self/status; id -un; id -u").await;
    assert!(
        out.stdout.contains("CapEff:\t0000000000000000") && out.stdout.contains("NoNewPrivs:\t1"),
        "{out:?}"
    );
    let Isolation::Bubblewrap { uid, .. } = &facts.isolation else { panic!() };
    if uid.is_some() {
        let owner = std::os::unix::fs::MetadataExt::uid(
            &std::fs::metadata(host.root().join(name.as_str()).join("repo/workspace/f")).unwrap(),
        );
        assert!((64_000..65_500).contains(&owner), "an unprivileged user: {owner}");
        assert!(out.stdout.ends_with(&format!("agent\n{owner}\n")), "{out:?}");
    }
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn says_that_there_is_no_isolation_and_why() {
    let host = Host::new(IsolationMode::Off);
    let provider = host.provider().await;
    let Isolation::None { reason } = provider.isolation().unwrap() else { panic!() };
    assert!(reason.contains("configuration"), "{reason}");
    let mut config = host.config();
    config.isolation = IsolationMode::Auto;
    config.bwrap = "/nowhere/bwrap".into();
    let auto = LocalProvider::new(config.clone(), Env::system()).await.unwrap();
    let Isolation::None { reason } = auto.isolation().unwrap() else { panic!() };
    assert!(reason.contains("/nowhere/bwrap"), "{reason}");
    config.isolation = IsolationMode::Require;
    let refused = LocalProvider::new(config, Env::system()).await;
    assert_eq!(refused.err().unwrap().reason, "ISOLATION_UNAVAILABLE");
}

/// How many `sleep SECONDS` run on this host.
fn sleepers(seconds: &str) -> usize {
    let line = format!("sleep\0{seconds}\0");
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|e| std::fs::read(e.path().join("cmdline")).is_ok_and(|c| c == line.as_bytes())).count()
}

#[tokio::test]
async fn leaves_no_process_even_of_an_agent_that_tries_to_get_away() {
    for (mode, destroyed) in [
        (IsolationMode::Auto, true),
        (IsolationMode::Auto, false),
        (IsolationMode::Off, true),
        (IsolationMode::Off, false),
    ] {
        let host = Host::new(mode);
        let provider = host.provider().await;
        let name = name();
        let (facts, _) = ready(&host, &provider, &name).await;
        let seconds = format!("6{}", std::process::id());
        let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
        for id in ["m1", "m2"] {
            assert_eq!(talk.said(id, &format!("spawn {seconds}")).await, "spawn true");
        }
        eventually("both got away", async || (sleepers(&seconds) == 2).then_some(())).await;
        if !destroyed {
            // The end of the runtime ends everything, however it came.
            process(&facts).kill().unwrap();
            eventually("all ended", async || (sleepers(&seconds) == 0).then_some(())).await;
        }
        provider.destroy(&name).await.unwrap();
        assert_eq!((sleepers(&seconds), processes_of(&name)), (0, vec![]));
    }
}

#[tokio::test]
async fn runs_a_script_inside_with_input_output_and_a_limit() {
    let host = Host::new(IsolationMode::Auto);
    let provider = host.provider().await;
    let inside = Inside { host: &host, provider: &provider };
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    let mut spec = sh("cat; pwd; echo $WHO; echo oops >&2; exit 3");
    spec.stdin = b"line one\nline two\n".to_vec();
    spec.env = [("WHO".to_owned(), "me".to_owned())].into();
    spec.cwd = Some(facts.workspace.clone());
    let out = client.exec(&spec).await.unwrap();
    assert_eq!(out.stdout, format!("line one\nline two\n{}\nme\n", facts.workspace.display()));
    assert_eq!((out.exit_code, out.stderr.as_str(), out.timed_out), (Some(3), "oops\n", false));

    let mut slow = sh("sleep 60");
    slow.limit = Duration::from_millis(300);
    assert!(client.exec(&slow).await.unwrap().timed_out);
    let left = inside.run(&facts, "setsid -f env -i sleep 61; echo started").await;
    assert_eq!(left.stdout, "started\n", "what it leaves behind neither blocks nor stays");
    assert_eq!(
        inside.run(&facts, "grep -sl '^sleep.61' /proc/[0-9]*/cmdline | wc -l").await.stdout.trim(),
        "0"
    );
    assert_eq!(inside.run(&facts, "kill -TERM $$").await.exit_code, Some(143));
    let mut loud = sh("yes | head -c 100000");
    loud.max_output = 1_000;
    let out = client.exec(&loud).await.unwrap();
    assert!(out.stdout_truncated && out.stdout.len() <= 1_000, "{}", out.stdout.len());
    let none = ExecSpec { argv: vec!["no-such-program".into()], ..sh("") };
    let e = client.exec(&none).await.unwrap_err();
    assert!(e.is_refused("start_failed") && e.to_string().contains("no-such-program"), "{e}");
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn hands_work_over_as_a_bundle_and_refuses_a_link_in_its_place() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let inside = Inside { host: &host, provider: &provider };
        let name = name();
        let (facts, _) = ready(&host, &provider, &name).await;
        let mut talk = open(&host, &provider, &facts, "agt_1", "run1").await;
        talk.said("m1", "write new.txt by-the-agent").await;
        let script = "set -e; cd /workspace 2>/dev/null || cd \"$PWD\"; mkdir -p $HOME/.foundry/out; \
            export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; \
            git init -q . ; git add -A; git commit -qm work; git bundle create -q $HOME/.foundry/out/work.bundle HEAD";
        let mut spec = sh(script);
        spec.cwd = Some(facts.workspace.clone());
        let out = inside.client(&facts).exec(&spec).await.unwrap();
        assert_eq!(out.exit_code, Some(0), "{out:?}");
        let handle = host.handle(&provider, &facts);
        let bundle = host.dir.path().join("work.bundle");
        let copy = |max| handle.take_file(".foundry/out/work.bundle", &bundle, max);
        assert!(copy(1 << 20).await.unwrap() > 0);
        let heads =
            std::process::Command::new("git").args(["bundle", "list-heads"]).arg(&bundle).output().unwrap();
        assert!(heads.status.success() && heads.stdout.ends_with(b"HEAD\n"), "{heads:?}");
        assert_eq!(copy(10).await.unwrap_err().reason, "HANDOVER_TOO_LARGE");
        let swap = "ln -sf /etc/passwd $HOME/.foundry/out/work.bundle";
        assert_eq!(inside.run(&facts, swap).await.exit_code, Some(0));
        assert_eq!(copy(1 << 20).await.unwrap_err().reason, "HANDOVER_REFUSED");
        provider.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn lists_the_processes_of_the_sandbox_and_no_other_whatever_they_are_called() {
    for way in WAYS {
        let host = Host::by(way);
        let provider = host.provider().await;
        let (name, other) = (name(), name());
        let (facts, client) = ready(&host, &provider, &name).await;
        let _ = ready(&host, &provider, &other).await;
        let _talk = open(&host, &provider, &facts, "agt_1", "run1").await;
        let listing = client.processes().await.unwrap();
        assert!(!listing.truncated, "{listing:?}");
        let commands: Vec<_> = listing.processes.iter().map(|p| p.command.as_str()).collect();
        let runtimes = commands.iter().filter(|c| c.contains("internal runtime") && !c.contains("bwrap"));
        assert_eq!(runtimes.count(), 1, "its own runtime: {commands:?}");
        assert!(commands.iter().any(|c| c.contains("demo-agent")), "{commands:?}");
        assert!(!commands.iter().any(|c| c.contains(facts.key.expose())));
        assert!(listing.processes.is_sorted_by_key(|p| p.pid));
        let now = Env::system().clock.now().as_micros();
        for process in &listing.processes {
            assert!(process.rss_bytes >= 0 && process.cpu_millis >= 0, "{process:?}");
            let age = now - process.start_micros;
            assert!((-2_000_000..600_000_000).contains(&age), "{process:?} is {age} old");
        }
        let root = host.dir.path().to_str().unwrap();
        assert!(!facts.isolation.is_bubblewrap() || !commands.iter().any(|c| c.contains(root)));
        assert!(!facts.isolation.is_bubblewrap() || commands[0].ends_with("bwrap"), "{commands:?}");
        let tests = std::process::id().cast_signed();
        let host_has = |c: &str| c.contains("/deps/it-");
        assert!(facts.isolation.is_bubblewrap() || !listing.processes.iter().any(|p| p.pid == tests));
        assert!(!commands.iter().any(|c| host_has(c)), "nothing of the host: {commands:?}");
        provider.destroy(&name).await.unwrap();
        provider.destroy(&other).await.unwrap();
    }
}
