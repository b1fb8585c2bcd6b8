//! Programs that use the proxy by their standard settings alone.

use std::path::PathBuf;
use std::process::Command;

use super::inside::Inside;
use super::world::Ssh;

const REGISTRY: &str = "https://registry.example.org";
const WORDS: &str = "hello from the world";
/// A Java program that prints the content at a URL.
const JAVA: &str = r#"public class Fetch { public static void main(String[] a) throws Exception {
    System.out.write(new java.net.URL(a[0]).openStream().readAllBytes()); System.out.flush(); } }"#;

/// The host's Rust toolchain, which sandboxes see only if it is configured.
pub fn toolchain() -> Option<PathBuf> {
    let out = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(out.stdout).ok()?.trim());
    (path.join("bin/cargo").is_file() && !path.starts_with("/usr")).then_some(path)
}

/// Path of the agents' Node inside a sandbox.
fn node() -> String {
    let node = PathBuf::from(std::env::var_os("NODE").unwrap());
    let below = node.strip_prefix(super::tools()).unwrap();
    format!("/opt/foundry/tools/{}", below.display())
}

/// Name, whether it must be installed, and a script that prints the text of the outside server.
fn all() -> Vec<(&'static str, bool, String)> {
    let cargo = toolchain().map_or("cargo".to_owned(), |t| t.join("bin/cargo").display().to_string());
    let node = node();
    vec![
        (
            "curl",
            true,
            format!("curl -sSf {REGISTRY}/hello.txt && curl -sSf http://registry.example.org/hello.txt"),
        ),
        (
            "python3",
            true,
            format!("python3 -c 'import urllib.request as u; print(u.urlopen(\"{REGISTRY}/hello.txt\").read())'"),
        ),
        (
            "node",
            true,
            format!(
                "{node} --version; {node} -e 'fetch(\"{REGISTRY}/hello.txt\").then(async r => console.log(await r.text()), \
                 e => {{ console.log(e); process.exit(1) }})'"
            ),
        ),
        (
            "npm",
            true,
            format!(
                "mkdir -p /tmp/n && cd /tmp/n && npm install --registry {REGISTRY}/npm tiny-net && cat node_modules/tiny-net/hello.txt"
            ),
        ),
        ("git", true, format!("git clone -q {REGISTRY}/repo.git /tmp/g && cat /tmp/g/hello.txt")),
        (
            "pip3",
            false,
            format!(
                "pip3 install -q --no-cache-dir --disable-pip-version-check --target /tmp/p --index-url {REGISTRY}/simple tiny-net && cat /tmp/p/tiny_net/hello.txt"
            ),
        ),
        (
            "cargo",
            false,
            format!(
                "set -e; {cargo} --version; mkdir -p /tmp/c/src && cd /tmp/c && echo 'fn main() {{}}' > src/main.rs
                 printf '[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ntiny-net = {{ version = \"1\", registry = \"there\" }}\n[workspace]\n' > Cargo.toml
                 mkdir -p .cargo && printf '[registries.there]\nindex = \"sparse+{REGISTRY}/index/\"\n' > .cargo/config.toml
                 PATH=$(dirname {cargo}):$PATH {cargo} fetch && cat $HOME/.cargo/registry/src/*/tiny-net-1.0.0/hello.txt"
            ),
        ),
        (
            "java",
            false,
            format!(
                "echo '{JAVA}' > /tmp/Fetch.java && java /tmp/Fetch.java http://registry.example.org/hello.txt && java /tmp/Fetch.java {REGISTRY}/hello.txt && echo both"
            ),
        ),
    ]
}

/// Lets each program fetch something from a registry of its kind.
pub async fn reach_the_world(sandbox: &Inside) {
    for (program, required, script) in all() {
        let out = sandbox.run(&format!("command -v {program} > /dev/null || [ {program} = node ] || [ {program} = cargo ] || exit 99; {script}")).await;
        if !required && (out.ends_with("exit 99\n") || out.contains("cargo: not found")) {
            eprintln!("skipped: {program} is missing");
            continue;
        }
        assert!(out.contains(WORDS) && out.ends_with("exit 0\n"), "{program}: {out}");
        eprintln!("{program}: through the proxy");
    }
    let bare = format!(
        "env -u HTTPS_PROXY -u https_proxy -u ALL_PROXY -u all_proxy curl -sS -m 5 {REGISTRY}/hello.txt"
    );
    let bare = sandbox.run(&bare).await;
    assert!(!bare.ends_with("exit 0\n"), "there is no other way: {bare}");
}

/// git over ssh in both directions: one clone pushes, and a second one receives it.
pub async fn push_by_ssh(sandbox: &Inside, ssh: &Ssh) {
    sandbox.put("key", ssh.key.as_bytes());
    let out = sandbox
        .run(
            r#"set -e
mkdir -p -m 700 ~/.ssh
install -m 600 /tmp/key ~/.ssh/id_ed25519
printf 'Host registry.example.org\n    StrictHostKeyChecking accept-new\n    BatchMode yes\n' > ~/.ssh/config
git config --global user.name a
git config --global user.email a@example.org
cd /tmp
git clone -q git@registry.example.org:pushed.git one
cd one
git checkout -q -b main
head -c 3000000 /dev/urandom | base64 > large
git add large
git commit -qm 'from a sandbox'
git push -q origin main
git clone -q git@registry.example.org:pushed.git ../two
cmp large ../two/large
git rev-parse HEAD
"#,
        )
        .await;
    assert!(out.ends_with("exit 0\n"), "{out}");
    let pushed = ssh.git(&["log", "-1", "--format=%H %s", "main"]);
    let (commit, subject) = pushed.trim().split_once(' ').unwrap_or_default();
    assert!(subject == "from a sandbox" && out.contains(commit), "{pushed}: {out}");
    eprintln!("git over ssh: through the proxy, there and back");
}
