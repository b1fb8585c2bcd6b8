//! The whole mesh in a network namespace of the test's own. Listeners of the mesh and of the test are on exactly the
//! addresses that sandboxes must not reach, so a missing guard shows as a successful connection. A second namespace is
//! the outside world, with servers at documentation addresses that programs in sandboxes do reach.

mod inside;
mod programs;
mod servers;
mod world;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use foundry_core::Env;
use foundry_tests::services::default_ports;
use foundry_tests::story::register;
use foundry_tests::{Mesh, Origin};
use foundry_tool_cache::{NpmSettings, ToolCache};

use inside::{Inside, attack};

/// Addresses of the mesh's host. Gateway, services and admin page listen on all of them.
const ADDRESSES: [&str; 11] = [
    "127.0.0.1",
    "127.8.9.10",
    "169.254.169.254",
    "10.1.2.3",
    "172.16.5.5",
    "192.168.7.7",
    "100.64.0.9",
    "203.0.113.50",
    "::1",
    "fd00::7",
    "2001:db8:5::5",
];
/// What else is there: services of a cloud, a database, a dev server. A listener of the test stands for each.
const OTHER_PORTS: [u16; 3] = [80, 5432, 8123];
/// Names that the resolver maps to internal addresses, and one without an address.
const NAMES: [&str; 4] =
    ["inside.example.org:7100", "own.example.org:7100", "localhost.example.org:7109", "localhost:7100"];

/// Sets up the mesh's namespace: its addresses, a link to the outside world, the test's resolver, and a user for ssh.
/// Names are looked up once with a long timeout, as the resolver counts look-ups and may be slow.
const SET_UP: &str = r#"
set -e
ip link set lo up
for a in 169.254.169.254 10.1.2.3 172.16.5.5 192.168.7.7 100.64.0.9 203.0.113.50; do ip addr add $a/32 dev lo; done
for a in fd00::7 2001:db8:5::5; do ip -6 addr add $a/128 dev lo nodad; done
ip link add wire type veth peer name far netns "$WORLD"
ip addr add 192.0.2.254/24 dev wire
ip link set wire up
nsenter --net=/proc/"$WORLD"/ns/net sh -c 'ip link set lo up; ip addr add 192.0.2.1/24 dev far; ip link set far up'
mount --make-rprivate /
printf 'nameserver 127.0.0.1\noptions timeout:30 attempts:1\n' > "$PLACE/resolv.conf"
mount --bind "$PLACE/resolv.conf" /etc/resolv.conf
{ cat /etc/passwd; echo "git:x:63999:63999::$PLACE/git:/bin/sh"; } > "$PLACE/passwd"
mount --bind "$PLACE/passwd" /etc/passwd
exec "$0" --exact namespace::within --ignored --nocapture --test-threads 1
"#;

/// Whether the host allows network namespaces; prints the reason if not.
fn is_possible() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: making network namespaces in which sandboxes have users of their own needs root");
        return false;
    }
    for (program, package) in [
        ("ip", "iproute2"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("dropbear", "dropbear-bin"),
    ] {
        if Command::new(program).arg("-V").stderr(Stdio::null()).stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: {program} is missing (package {package})");
            return false;
        }
    }
    true
}

/// Directory in which the agents' Node and packages are kept between runs.
fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tools")
}

#[tokio::test]
async fn reaches_public_hosts_by_its_programs_and_nothing_of_the_mesh_in_a_namespace_of_its_own() {
    if !is_possible() {
        return;
    }
    // Downloaded before the network is gone, in the same way as the mesh does.
    let cache = ToolCache::new(tools(), NpmSettings::default(), Env::system());
    let node = cache.ensure_node(|line| eprintln!("{line}")).await.unwrap();
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut world = Command::new("unshare")
        .args(["--net", "sh", "-c", "echo up; exec sleep 600"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    if std::io::Read::read_exact(world.stdout.as_mut().unwrap(), &mut up).is_err() {
        let _ = (world.kill(), world.wait());
        eprintln!("skipped: this system does not let root make network namespaces");
        return;
    }
    let done = Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", SET_UP])
        .arg(std::env::current_exe().unwrap())
        .env("WORLD", world.id().to_string())
        .env("PLACE", place.path())
        .env("NODE", node)
        .output();
    world.kill().unwrap();
    world.wait().unwrap();
    let done = done.unwrap();
    let words = [String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)].concat();
    assert!(done.status.success() && words.contains("1 passed"), "{words}");
    eprintln!("{words}");
}

/// Runs only in the namespace that the test above creates.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a network namespace of its own: the test above makes one and runs this in it"]
async fn within() {
    let world: u32 = std::env::var("WORLD").expect("only within the namespace").parse().unwrap();
    let place = PathBuf::from(std::env::var_os("PLACE").unwrap());
    for address in ADDRESSES {
        for port in OTHER_PORTS {
            servers::say(TcpListener::bind((address, port)).unwrap(), "REACHED");
        }
    }
    let turned = servers::names();
    let site = place.join("site");
    std::fs::create_dir(&site).unwrap();
    world::publish(&site);
    let ca = world::serve(world, &site, &place);
    let ssh = world::Ssh::start(world, &place);

    let mut settings = vec![
        format!("provisioner.network.ca_file={}", ca.display()),
        format!("provisioner.tools_cache={}", tools().display()),
    ];
    settings.extend(
        programs::toolchain()
            .map(|t| format!("provisioner.local.extra_read_only=[{:?}]", t.display().to_string())),
    );
    let settings: Vec<_> = settings.iter().map(String::as_str).collect();
    let mesh = Mesh::start_everywhere(&settings);
    let caller = mesh.sign_in("ada").await;
    let repository = register(&caller, &Origin::create(mesh.dir())).await;
    let one = Inside::create(&mesh, &caller, &repository).await;
    let two = Inside::create(&mesh, &caller, &repository).await;

    // The guard is what refuses: without it these would be reached.
    let ports = [&default_ports()[..], &OTHER_PORTS].concat();
    let there = attack::from_here(&ADDRESSES, &ports);
    assert_eq!((there.attempts, there.wrong), (ADDRESSES.len() * ports.len(), Vec::<String>::new()));

    let begun = Instant::now();
    one.listens_on_8123().await;
    let tried = attack::from(&two, &ADDRESSES, &ports, &NAMES).await;
    assert_eq!(tried.wrong, Vec::<String>::new(), "of {} attempts", tried.attempts);
    eprintln!("{} attempts refused in {} ms", tried.attempts, begun.elapsed().as_millis());
    two.listens_on_8123().await;
    for sandbox in [&one, &two] {
        let fetch = "import socket; print(socket.create_connection(('127.0.0.1', 8123)).recv(100).decode())";
        let found = sandbox.run(&format!("python3 -c \"{fetch}\"")).await;
        assert!(found.contains(&sandbox.id), "its own listener answers: {found}");
    }

    let turn =
        |port: u16| format!("/opt/foundry/bin/foundry internal connect turns.example.org {port} < /dev/null");
    let first = two.run(&turn(81)).await;
    assert!(first.contains("the world"), "at its first look-up it is public: {first}");
    let second = two.run(&turn(80)).await;
    assert!(second.contains("it resolves to 127.0.0.1, a loopback address"), "{second}");
    assert!(turned.load(std::sync::atomic::Ordering::SeqCst) >= 2 && !second.contains("REACHED"));

    programs::reach_the_world(&two).await;
    programs::push_by_ssh(&two, &ssh).await;
}
