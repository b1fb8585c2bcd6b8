//! A network of its own for every isolated sandbox.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use foundry_core::{Env, Tasks};
use foundry_egress::{Directory, Egress, Settings, SystemNetwork};
use foundry_runtime_client::RuntimeClient;
use foundry_sandbox::{Claim, Network, Provider as _, RuntimeFacts};
use foundry_sandbox_local::{IsolationMode, LocalProvider};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UnixListener};

use crate::common::{Host, name, process, ready, run, sh};

/// The output of a listener that must not be reached.
pub const REACHED: &str = "REACHED";

/// The sandboxes whose claims are accepted.
#[derive(Clone, Default)]
pub struct Known(pub Arc<Mutex<Vec<RuntimeFacts>>>);

#[async_trait]
impl Directory for Known {
    async fn network(&self, claim: &Claim) -> Result<Option<Network>, String> {
        let all = self.0.lock().unwrap();
        let found = all.iter().find(|f| f.sandbox.as_str() == claim.sandbox && claim.verify(&f.key));
        Ok(found.map(|f| f.network.clone()))
    }
}

/// The mesh's proxy for the sandboxes of a host, at this socket.
pub fn proxy(socket: &Path, known: &Known) -> Tasks {
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    open_to_all(socket);
    let (tasks, _) = Tasks::new();
    let (known, host_network) = (Arc::new(known.clone()), Arc::new(SystemNetwork));
    Egress::new(known, host_network, None, Settings::default(), Env::system(), tasks.clone()).serve(listener);
    tasks
}

fn open_to_all(socket: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |m| std::fs::Permissions::from_mode(m);
    std::fs::set_permissions(socket.parent().unwrap(), mode(0o755)).unwrap();
    std::fs::set_permissions(socket, mode(0o666)).unwrap();
}

/// A host whose sandboxes have a proxy.
pub async fn provider_with_a_way_out(host: &Host, network: Option<Network>) -> (LocalProvider, Known, Tasks) {
    let socket = host.dir.path().join("mesh/network.sock");
    let known = Known::default();
    let tasks = proxy(&socket, &known);
    let mut config = host.config();
    config.network_socket = Some(socket);
    config.network = network;
    (LocalProvider::new(config, Env::system()).await.unwrap(), known, tasks)
}

/// Whether sandboxes can have networks of their own here; prints why not.
pub fn has_networks(provider: &LocalProvider) -> bool {
    if !provider.network().unwrap().is_own() {
        eprintln!("skipped: {:?}, {:?}", provider.isolation().unwrap(), provider.network_note());
    }
    provider.network().unwrap().is_own()
}

/// A listener that sends [`REACHED`] to every client.
async fn listener(tasks: &Tasks, at: &str) -> u16 {
    let listener = TcpListener::bind(at).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn("listener", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(REACHED.as_bytes()).await;
        }
    });
    port
}

const BINARY: &str = "/opt/foundry/bin/foundry";

async fn said(client: &RuntimeClient, script: &str) -> String {
    let out = run(client, script).await;
    format!("{}{}", out.stdout, out.stderr)
}

#[tokio::test]
async fn two_sandboxes_listen_on_the_same_port_and_do_not_reach_each_other() {
    let host = Host::new(IsolationMode::Auto);
    let (provider, known, _tasks) = provider_with_a_way_out(&host, None).await;
    if !has_networks(&provider) {
        return;
    }
    assert_eq!(*provider.network().unwrap(), Network::public(), "what is usual");
    let names = [name(), name(), name()];
    let mut clients = Vec::new();
    for name in &names {
        let (facts, client) = ready(&host, &provider, name).await;
        assert_eq!(facts.network, Network::public());
        known.0.lock().unwrap().push(facts);
        clients.push(client);
    }
    for client in &clients[..2] {
        let mut spec = sh(&format!(
            "setsid {BINARY} internal listen 8123 > /tmp/listening 2>&1 & \
             until grep -q listening /tmp/listening; do sleep 0.05; done; {BINARY} internal fetch 127.0.0.1 8123"
        ));
        spec.limit = std::time::Duration::from_secs(30);
        let out = client.exec(&spec).await.unwrap();
        assert_eq!(out.exit_code, Some(0), "{out:?}");
        let own = client.exec(&sh("echo $FOUNDRY_SANDBOX")).await.unwrap();
        assert!(out.stdout.contains(own.stdout.trim()), "its own listener answers: {out:?}");
    }
    // Also by the proxy, to which some programs send requests for their own loopback.
    for script in [
        format!("{BINARY} internal fetch 127.0.0.1 8123"),
        format!("{BINARY} internal connect 127.0.0.1 8123 < /dev/null"),
        format!("{BINARY} internal connect localhost 8123 < /dev/null"),
    ] {
        let out = run(&clients[2], &script).await;
        assert_ne!(out.exit_code, Some(0), "a third sandbox reaches neither: {script} {out:?}");
    }
    for name in &names {
        provider.destroy(name).await.unwrap();
    }
}

#[tokio::test]
async fn reaches_nothing_of_the_host_from_inside() {
    let host = Host::new(IsolationMode::Auto);
    let (provider, known, tasks) = provider_with_a_way_out(&host, None).await;
    if !has_networks(&provider) {
        return;
    }
    let port = listener(&tasks, "0.0.0.0:0").await;
    let name = name();
    let (facts, client) = ready(&host, &provider, &name).await;
    known.0.lock().unwrap().push(facts);
    // The source address of outgoing packets: an address of this host other than its loopback.
    let route = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let outer =
        route.connect("192.0.2.1:9").and_then(|()| route.local_addr()).ok().map(|a| a.ip().to_string());
    for address in ["127.0.0.1".to_owned()].into_iter().chain(outer) {
        for how in ["fetch", "connect"] {
            let out = said(&client, &format!("{BINARY} internal {how} {address} {port} < /dev/null")).await;
            assert!(!out.contains(REACHED), "{how} {address}: {out}");
        }
    }
    let interfaces = said(&client, "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' \\n'").await;
    assert_eq!(interfaces, "lo", "a loopback and nothing else");
    let refused = said(&client, &format!("{BINARY} internal connect 169.254.169.254 80 < /dev/null")).await;
    assert!(
        refused.starts_with(
            "foundry connect: NETWORK_REFUSED: the network policy \"public\" of this sandbox does not allow \
             169.254.169.254:80: it is a link-local address"
        ),
        "{refused}"
    );
    let output = said(&client, "echo $HTTPS_PROXY $https_proxy $NO_PROXY $JAVA_TOOL_OPTIONS").await;
    assert!(
        output.contains("http://127.0.0.1:61480 http://127.0.0.1:61480 localhost,127.0.0.1,::1 -D"),
        "{output}"
    );
    provider.destroy(&name).await.unwrap();
}

#[tokio::test]
async fn has_the_network_of_the_host_only_where_it_is_named_or_there_is_no_other() {
    for (mode, setting) in [(IsolationMode::Auto, Some(Network::Host)), (IsolationMode::Off, None)] {
        let host = Host::new(mode);
        let (provider, _, tasks) = provider_with_a_way_out(&host, setting).await;
        let port = listener(&tasks, "127.0.0.1:0").await;
        let name = name();
        let (facts, client) = ready(&host, &provider, &name).await;
        assert_eq!(facts.network, Network::Host);
        let program = if facts.isolation.is_bubblewrap() {
            BINARY.to_owned()
        } else {
            crate::common::binary().to_string_lossy().into_owned()
        };
        let out =
            said(&client, &format!("{program} internal fetch 127.0.0.1 {port}; echo $HTTPS_PROXY.")).await;
        assert!(out.contains(REACHED) && out.ends_with(".\n"), "{out}");
        provider.destroy(&name).await.unwrap();
    }
    let mut config = Host::new(IsolationMode::Off).config();
    config.network = Some(Network::public());
    let refused = LocalProvider::new(config, Env::system()).await.err().unwrap();
    assert_eq!(refused.reason, "ISOLATION_UNAVAILABLE");
}

#[tokio::test]
async fn keeps_the_network_a_sandbox_was_made_with_and_reads_host_for_one_of_an_older_version() {
    let host = Host::new(IsolationMode::Auto);
    let (provider, _, _tasks) = provider_with_a_way_out(&host, Some(Network::none())).await;
    if !has_networks(&provider) {
        return;
    }
    let (kept, old) = (name(), name());
    let (facts, _) = ready(&host, &provider, &kept).await;
    assert_eq!(facts.network, Network::none());
    provider.allocate(&old).await.unwrap();
    let record = host.root().join(old.as_str()).join("sandbox.json");
    let mut written: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    written.as_object_mut().unwrap().remove("network").unwrap();
    std::fs::write(&record, serde_json::to_vec(&written).unwrap()).unwrap();
    process(&facts).kill().unwrap();
    let after = host.provider().await;
    assert_eq!(*after.network().unwrap(), Network::public());
    let spec = crate::common::start_spec(&kept, "run2");
    assert_eq!(after.start_agent(&spec).await.unwrap().network, Network::none());
    let (facts, _) = ready(&host, &after, &old).await;
    assert_eq!(facts.network, Network::Host);
    for name in [kept, old] {
        after.destroy(&name).await.unwrap();
    }
}
