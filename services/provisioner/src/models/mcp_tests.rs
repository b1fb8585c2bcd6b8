//! MCP servers over HTTP, as agent and gateway see them.

use foundry_flow::{Engine, Options};
use foundry_http_client::NetworkSettings;
use foundry_model_gateway::{Ledger as _, McpRefused, SandboxProof};
use foundry_proto::provisioner::v1 as p;
use foundry_proto::provisioner::v1::mcp_server::Transport;
use foundry_sandbox::{Network, RuntimeFacts, RuntimeKey};
use foundry_store::WriteSet;

use super::ledger::SessionLedger;
use super::mcp::McpClients;
use crate::domain::{Session, offer};
use crate::flow::{self, agent};
use crate::store::{sandboxes, sessions};
use crate::testing::Fixture;
use crate::testing::profiles::{profile_settings, secret};

const CANARY: &str = "Bearer http-canary-8888";

fn http(name: &str, url: &str) -> p::McpServer {
    let http = p::McpHttp { url: url.to_owned(), headers: vec![secret("Authorization", CANARY)] };
    p::McpServer { name: name.to_owned(), transport: Some(Transport::Http(http)) }
}

pub(super) fn ledger(f: &Fixture) -> SessionLedger {
    let network = NetworkSettings::default();
    let servers = McpClients::new(super::client(&network).unwrap(), &network).unwrap();
    SessionLedger::new(&f.shared, servers)
}

struct World {
    f: Fixture,
    session: Session,
    facts: RuntimeFacts,
}

impl World {
    /// A session whose profile has servers of all kinds, in a sandbox with this network.
    async fn new(network: Network) -> Self {
        let mut f = Fixture::new().await;
        f.configure(|c| c.mcp_hosts = vec!["127.0.0.1:3845".to_owned()]);
        let (store, env) = (f.shared.store.clone(), f.env.env.clone());
        f.engine = Engine::new(store, env, flow::bindings(&f.shared), Options::default()).unwrap();
        let sandbox = f.ensure().await;
        f.run().await;
        let session = f.session(&sandbox).await;
        let mut settings = profile_settings("night", "");
        let Some(Transport::Http(events)) = http("", "https://192.0.2.8/sse").transport else {
            unreachable!()
        };
        settings.mcp_servers.extend([
            http("web", "https://192.0.2.7/mcp/"),
            http("own", "http://127.0.0.1:7219/metrics"),
            http("named", "http://127.0.0.1:3845/mcp"),
            p::McpServer { name: "old".to_owned(), transport: Some(Transport::Sse(events)) },
        ]);
        let profile = f.profile(settings).await;
        let sandbox = f.sandbox(session.sandbox_id.as_str()).await;
        let key = RuntimeKey::generate(&f.env.env);
        let facts = RuntimeFacts { key, network, ..sandbox.facts.clone().unwrap() };
        let mut ws = WriteSet::new();
        sandboxes::update(&mut ws, &sandbox, vec![("facts", sandboxes::facts_value(&facts).unwrap())]);
        sessions::update(&mut ws, &session, vec![("profile_id", profile.profile_id.into())]);
        f.shared.store.commit(ws).await.unwrap();
        let session = f.again(&session).await;
        Self { f, session, facts }
    }

    fn token(&self) -> String {
        self.facts.key.model_token(self.session.session_id.as_str())
    }

    fn proof(&self, key: &RuntimeKey) -> SandboxProof {
        let sandbox = self.session.sandbox_id.as_str();
        SandboxProof::of(key, sandbox, &self.facts.runtime_instance, &"9".repeat(64))
    }
}

#[tokio::test]
async fn the_agent_gets_addresses_of_the_gateway_and_only_programs_get_their_secrets() {
    let w = World::new(Network::Host).await;
    let over = offer::Start::default();
    let chosen = (w.session.profile_id.as_str(), &over);
    let start = agent::start(&w.f.shared, &w.f.organization, "demo", chosen, &w.token()).await;
    let servers = start.ok().unwrap().mcp_servers;
    let text = serde_json::Value::from(servers.clone()).to_string();
    assert!(!text.contains("http-canary") && !text.contains("192.0.2"), "{text}");
    assert!(text.contains("mcp-canary-6666"), "the program's own: {text}");
    let shown: Vec<_> = servers.iter().map(|s| (s["type"].as_str(), s["url"].as_str())).collect();
    assert_eq!(shown[1], (Some("http"), Some("${FOUNDRY_MODEL_URL}/mcp/web")));
    assert_eq!(shown[4], (Some("sse"), Some("${FOUNDRY_MODEL_URL}/mcp/old")));
    assert_eq!(servers[1]["headers"][0]["value"], format!("Bearer {}", w.token()));
}

#[tokio::test]
async fn the_gateway_gets_the_servers_of_the_sessions_profile_with_their_secrets() {
    let w = World::new(Network::public()).await;
    let (ledger, token) = (ledger(&w.f), w.token());
    let ours = w.proof(&w.facts.key);
    let found = ledger.mcp(&token, Some(&ours), "web").await.unwrap();
    assert_eq!((found.url.as_str(), found.events), ("https://192.0.2.7/mcp/", false));
    assert_eq!(found.headers[0].1.expose_str(), Some(CANARY));
    assert!(ledger.mcp(&token, Some(&ours), "old").await.unwrap().events);
    for name in ["db", "other", ""] {
        let refused = ledger.mcp(&token, Some(&ours), name).await.unwrap_err();
        assert_eq!(refused, McpRefused::Unknown, "{name}");
    }
    let foreign = w.proof(&RuntimeKey::generate(&w.f.env.env));
    for (token, proof) in [(token.as_str(), None), (&token, Some(&foreign)), ("x.y", Some(&ours))] {
        assert_eq!(ledger.mcp(token, proof, "web").await.unwrap_err(), McpRefused::Token);
    }
    let mut ws = WriteSet::new();
    sessions::update(&mut ws, &w.session, vec![("state", "closed".into())]);
    w.f.shared.store.commit(ws).await.unwrap();
    assert_eq!(ledger.mcp(&token, Some(&ours), "web").await.unwrap_err(), McpRefused::Token);
}

#[tokio::test]
async fn a_server_is_reached_where_the_sandbox_may_go_and_where_the_operator_says() {
    let words = |refused| match refused {
        Err(McpRefused::Unreachable(words)) => words,
        other => panic!("{other:?}"),
    };
    for (network, web, own) in
        [(Network::public(), true, false), (Network::none(), false, false), (Network::Host, true, true)]
    {
        let w = World::new(network.clone()).await;
        let (ledger, token, proof) = (ledger(&w.f), w.token(), w.proof(&w.facts.key));
        for (name, allowed) in [("web", web), ("own", own), ("named", true)] {
            let access = ledger.mcp(&token, Some(&proof), name).await.unwrap();
            let answer = ledger.mcp_client(&access).await;
            if allowed {
                answer.unwrap();
            } else {
                let said = words(answer);
                assert!(said.contains("does not allow") && said.contains("mcp_hosts"), "{network}: {said}");
            }
        }
    }
}
