//! How a real agent is put behind the tap. The agents themselves need keys and a network and are not run
//! here: a runtime whose installer brings the scripted agent under a real one's name stands for theirs.
#![allow(clippy::unwrap_used)] // test code

mod common;

use common::{Host, name, open_with, source, start_spec, tools};
use foundry_core::Env;
use foundry_sandbox::{
    AgentCredentials, AgentKind, Class, IsolationMode, LocalConfig, LocalProvider, Provider as _, Tools,
    ToolsConfig,
};

/// A runtime that is the real one, but for its installer.
async fn with_installer(host: &Host, installer: &str) -> LocalProvider {
    let real = tools().await.sandbox_agent().unwrap();
    let cache = host.dir.path().join("cache");
    std::fs::create_dir_all(&cache).unwrap();
    let runtime = host.dir.path().join("sandbox-agent");
    // Inside, the real runtime is found where every sandbox has the tool cache.
    let inside = if host.mode == IsolationMode::Off { cache.clone() } else { "/opt/foundry/tools".into() };
    std::fs::copy(&real, cache.join("real")).unwrap();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = install-agent ]; then\n{installer}\nexit $?\nfi\nexec {}/real \"$@\"\n",
        inside.display()
    );
    let write = r#"printf %s "$1" > "$0" && chmod 755 "$0""#;
    let args = ["-c", write, runtime.to_str().unwrap(), &script];
    assert!(std::process::Command::new("sh").args(args).status().unwrap().success());
    let mut config = ToolsConfig::new(cache);
    config.sandbox_agent = Some(runtime);
    let mut local = LocalConfig::new(host.root(), common::binary());
    local.isolation = host.mode;
    local.min_free_bytes = 0;
    LocalProvider::open(local, Tools::new(config, Env::system()), Env::system()).await.unwrap()
}

#[tokio::test]
async fn runs_an_agent_of_the_runtimes_own_installer_behind_the_tap_with_its_key() {
    for mode in [IsolationMode::Auto, IsolationMode::Off] {
        let host = Host::new(mode);
        // What the real installer does: a program, and a launcher with absolute paths of its HOME.
        let installer = format!(
            "d=$HOME/.local/share/sandbox-agent/bin; mkdir -p $d/agent_processes; echo installed >> $HOME/../count; \
             cp {} $d/claude; printf '#!/bin/sh\\nexec %s internal demo-agent\\n' $d/claude > $d/agent_processes/claude-acp; \
             chmod 755 $d/agent_processes/claude-acp",
            common::binary().display()
        );
        let provider = with_installer(&host, &installer).await;
        if mode == IsolationMode::Auto && !provider.isolation().is_bubblewrap() {
            eprintln!("skipped: {:?}", provider.isolation());
            continue;
        }
        let name = name();
        provider.allocate(&name).await.unwrap();
        provider.prepare_repo(&name, &source()).await.unwrap();
        for _ in 0..2 {
            provider.install_agent(&name, AgentKind::ClaudeCode).await.unwrap();
        }
        let count = std::fs::read_to_string(host.dir.path().join("cache/agents/count")).unwrap();
        assert_eq!(count, "installed\n", "once for all sandboxes");
        let facts = provider.start_agent(&start_spec(&name, "run1")).await.unwrap();
        let keys = AgentCredentials::new([("ANTHROPIC_API_KEY".to_owned(), "sk-test".to_owned())]);
        let mut talk = open_with(&provider, &facts, "agt_1", "run1", AgentKind::ClaudeCode, &keys).await;
        assert_eq!(talk.said("m1", "env ANTHROPIC_API_KEY").await, r#"env Some("sk-test")"#);
        provider.destroy(&name).await.unwrap();
    }
}

#[tokio::test]
async fn says_why_an_agent_could_not_be_installed_and_tries_anew_next_time() {
    let host = Host::new(IsolationMode::Off);
    let provider = with_installer(&host, "mkdir -p $HOME/half; echo 'no network' >&2; false").await;
    let name = name();
    provider.allocate(&name).await.unwrap();
    for _ in 0..2 {
        let e = provider.install_agent(&name, AgentKind::Codex).await.unwrap_err();
        assert_eq!((e.class, e.reason, e.retryable), (Class::Image, "AGENT_INSTALL_FAILED", true));
        assert!(e.message.contains("no network"), "{e}");
    }
    provider.destroy(&name).await.unwrap();
}
