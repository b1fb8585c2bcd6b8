use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};

use foundry_core::{Clock, Env, SystemClock, Timestamp};
use serde_json::json;
use tokio::sync::Notify;

use super::*;
use crate::NpmSettings;

/// A host with an npm that is a script.
struct Host {
    dir: TempDir,
}

/// npm's successful run: a package with a program, under a umask that keeps other users out.
const GOOD: &str = "umask 077; echo run >> $ROOT/runs; mkdir -p node_modules/a/bin; \
    echo '{}' > node_modules/a/package.json; echo x > node_modules/a/bin/a; chmod 700 node_modules/a/bin/a";

impl Host {
    fn new(npm: &str) -> Self {
        let host = Self { dir: tempfile::tempdir().unwrap() };
        host.script(npm);
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the script. A child does it: a fork of another test could otherwise hold the file open for writing just
    /// when it is executed.
    /// writing just when it is executed.
    fn script(&self, body: &str) {
        let write = r#"printf '#!/bin/sh\nROOT=%s\n%s\n' "$1" "$2" > "$0" && chmod 755 "$0""#;
        let (npm, root) = (self.path("npm"), self.dir.path());
        let mut sh = std::process::Command::new("sh");
        assert!(sh.arg("-c").arg(write).arg(npm).arg(root).arg(body).status().unwrap().success());
    }

    fn cache(&self) -> ToolCache {
        let settings = NpmSettings { program: self.path("npm"), ..NpmSettings::default() };
        ToolCache::new(self.path("cache"), settings, Env::system())
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).map_or(0, |runs| runs.lines().count())
    }

    /// The entries of the cache except lock files.
    fn left(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("cache/npm")).unwrap().flatten();
        let names = names.map(|e| e.file_name().into_string().unwrap());
        names.filter(|name| name != "locks" && !name.starts_with(".lock~")).collect()
    }

    /// A pipe that the script opens; it ends when none of the script's processes is left.
    fn pipe(&self) {
        assert!(std::process::Command::new("mkfifo").arg(self.path("pipe")).status().unwrap().success());
    }

    /// The pipe, once the script and its child are up.
    fn open_pipe(&self) -> tokio::task::JoinHandle<File> {
        let path = self.path("pipe");
        tokio::task::spawn_blocking(move || {
            let mut pipe = File::open(path).unwrap();
            pipe.read_exact(&mut [0; 3]).unwrap();
            pipe
        })
    }
}

/// Starts a child that writes a line if it outlives the script, and waits.
const HANG: &str = "exec 3> $ROOT/pipe; (sleep 20; echo alive >&3) & echo up >&3; wait";

/// Whether the script and its child were killed.
async fn ends(mut pipe: File) {
    let mut said = String::new();
    let read = move || pipe.read_to_string(&mut said).map(|_| said);
    assert_eq!(tokio::task::spawn_blocking(read).await.unwrap().unwrap(), "");
}

fn lock(more: &str) -> String {
    let package = json!({ "version": "1.0.0", "integrity": "sha512-x" });
    let optional = json!({ "version": "1.0.0", "integrity": "sha512-x", "optional": true, "os": ["linux"] });
    let mut packages = json!({ "": { "dependencies": { "a": "1.0.0" } }, "node_modules/a": package });
    if !more.is_empty() {
        packages[""]["optionalDependencies"][more] = "1.0.0".into();
        packages[format!("node_modules/{more}")] = optional;
    }
    json!({ "lockfileVersion": 3, "packages": packages }).to_string()
}

fn tool() -> NpmPackageSet {
    let lock = Lock::Text(lock("").into());
    NpmPackageSet::new("tool", "{\"dependencies\": {\"a\": \"1.0.0\"}}", lock, "node_modules/a/bin/a")
}

async fn ensure(cache: &ToolCache) -> Result<Installed, ToolError> {
    cache.ensure(&tool(), |_| {}).await
}

#[tokio::test]
async fn installs_once_and_readable_for_every_user() {
    let host = Host::new(GOOD);
    let said = Mutex::new(Vec::new());
    let installed = host.cache().ensure(&tool(), |line| said.lock().unwrap().push(line.to_owned())).await;
    let installed = installed.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&installed.dir), mode(&installed.program)), (0o755, 0o755));
    assert_eq!(mode(&installed.dir.join("node_modules/a/package.json")), 0o644);
    assert_eq!(mode(&installed.dir.join("node_modules/a")), 0o755);
    let name = installed.dir.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(name, tool().stamped(&lock("")));
    assert_eq!(ensure(&host.cache()).await.unwrap(), installed);
    assert_eq!((host.runs(), host.left()), (1, vec![name]));
    let said = said.into_inner().unwrap();
    assert_eq!(said.first().unwrap(), "npm: installing tool, 1 packages");
    assert!(said.last().unwrap().starts_with("npm: tool is installed, "), "{said:?}");
}

#[tokio::test]
async fn installs_once_when_two_ask_at_once() {
    let host = Host::new(GOOD);
    let (one, two) = (host.cache(), host.cache());
    let (one, two) = tokio::join!(ensure(&one), ensure(&two));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(host.runs(), 1);
}

#[tokio::test]
async fn says_that_npm_is_missing_and_what_to_do() {
    let host = Host::new("");
    let mut cache = host.cache();
    cache.settings.program = "/nowhere/npm".into();
    let e = ensure(&cache).await.unwrap_err();
    assert_eq!((e.cause, e.reason, e.retryable), (Cause::Configuration, "NPM_MISSING", false));
    assert!(e.message.contains("install npm") && e.message.contains("provisioner.npm"), "{e}");
}

#[tokio::test]
async fn gives_the_words_of_npm_and_leaves_nothing_behind_when_it_fails() {
    let host = Host::new("echo 'npm error code E404' >&2; echo 'npm error 404 no such package' >&2; exit 1");
    let e = ensure(&host.cache()).await.unwrap_err();
    assert_eq!((e.cause, e.reason, e.retryable), (Cause::Image, "NPM_INSTALL_FAILED", true));
    assert!(e.message.ends_with("code E404 | 404 no such package"), "{e}");
    host.script("echo 'npm error code ENOSPC' >&2; exit 1");
    assert_eq!(ensure(&host.cache()).await.unwrap_err().reason, "DISK_FULL");
    host.script("mkdir -p node_modules/a; echo 'npm error code EINTEGRITY' >&2; exit 1");
    let e = ensure(&host.cache()).await.unwrap_err();
    assert_eq!((e.reason, e.retryable), ("TOOL_CORRUPT", false));
}

#[test]
fn removes_what_a_failed_installation_brought() {
    let host = Host::new("mkdir -p node_modules/a; exit 1");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(ensure(&host.cache())).unwrap_err();
    drop(runtime); // the removal belongs to it
    assert!(host.left().is_empty(), "{:?}", host.left());
}

#[tokio::test]
async fn takes_no_installation_for_whole_that_lacks_a_package() {
    let fetch = "npm http fetch GET https://r.example/b attempt 1 failed with ECONNREFUSED";
    let host = Host::new(&format!("{GOOD}; echo '{fetch}' >&2"));
    let lock = Lock::Text(lock("b").into());
    let tool = NpmPackageSet::new("tool", "{}", lock, "node_modules/a/bin/a");
    let e = host.cache().ensure(&tool, |_| {}).await.unwrap_err();
    assert_eq!((e.reason, e.retryable), ("NPM_INSTALL_FAILED", true));
    assert!(e.message.contains("node_modules/b") && e.message.contains("ECONNREFUSED"), "{e}");
    assert!(host.cache().installed(&tool).is_none());
    let elsewhere =
        NpmPackageSet::new("tool", "{}", Lock::Text(self::lock("").into()), "node_modules/a/main.js");
    let e = host.cache().ensure(&elsewhere, |_| {}).await.unwrap_err();
    assert_eq!((e.cause, e.reason), (Cause::Configuration, "TOOL_CORRUPT"));
    assert!(e.message.contains("node_modules/a/main.js"), "{e}");
}

#[tokio::test]
async fn replaces_what_a_killed_installer_or_a_careless_hand_left() {
    let host = Host::new(GOOD);
    let place = host.path("cache/npm").join(tool().stamped(&lock("")));
    let torn = host.path("cache/npm/.new~tool~killed");
    let other = host.path("cache/npm/.new~tool-b~alive");
    for dir in [&place, &torn, &other] {
        fs::create_dir_all(dir.join("node_modules")).unwrap();
    }
    assert!(host.cache().installed(&tool()).is_none());
    assert_eq!(ensure(&host.cache()).await.unwrap().dir, place);
    assert!(!torn.exists() && other.exists());
}

/// A clock on which the time limit of an installation is reached when the test decides.
struct LimitClock(Arc<Notify>);

#[async_trait::async_trait]
impl Clock for LimitClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn sleep(&self, d: Duration) {
        if d == NpmSettings::default().limit { self.0.notified().await } else { SystemClock.sleep(d).await }
    }
}

#[tokio::test]
async fn ends_npm_with_all_that_it_started_at_its_limit() {
    let host = Host::new(&format!("echo 'npm warn slow' >&2; {HANG}"));
    host.pipe();
    let limit = Arc::new(Notify::new());
    let mut cache = host.cache();
    cache.env.clock = Arc::new(LimitClock(limit.clone()));
    let started = async {
        let pipe = host.open_pipe().await.unwrap(); // the script is running
        limit.notify_one();
        pipe
    };
    let (ended, pipe) = tokio::join!(ensure(&cache), started);
    let e = ended.unwrap_err();
    assert_eq!((e.cause, e.reason, e.retryable), (Cause::Timeout, "TOOL_INSTALL_TIMEOUT", true));
    assert!(e.message.ends_with("npm warn slow"), "{e}");
    ends(pipe).await;
}

#[test]
fn ends_npm_and_removes_its_work_when_it_is_stopped() {
    let host = Host::new(&format!("mkdir -p node_modules/a; {HANG}"));
    host.pipe();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cache = host.cache();
        let pipe = tokio::select! {
            pipe = host.open_pipe() => pipe.unwrap(), // the script is running
            ended = ensure(&cache) => panic!("it ended by itself: {ended:?}"),
        };
        ends(pipe).await;
    });
    drop(runtime); // the removal belongs to it
    assert!(host.left().is_empty(), "{:?}", host.left());
}

#[tokio::test]
async fn does_not_wait_for_a_stranger_that_holds_the_output_open() {
    let host = Host::new(&format!("{GOOD}; setsid sleep 5 3> /dev/null & exit 0"));
    assert!(ensure(&host.cache()).await.is_ok());
}

#[tokio::test]
async fn waits_for_another_process_and_says_so_but_not_for_ever() {
    let host = Host::new(GOOD);
    let cache = host.cache();
    let mut impatient = host.cache();
    impatient.settings.limit = Duration::from_millis(200);
    cache.make_base().unwrap();
    let path = host.path("cache/npm/.lock~tool");
    let held = lock::take(&path, "tool", cache.settings.limit, &cache.env, || {}).await.unwrap();
    let said = Mutex::new(Vec::new());
    let waited = impatient.ensure(&tool(), |line| said.lock().unwrap().push(line.to_owned())).await;
    assert_eq!(waited.unwrap_err().reason, "TOOL_INSTALL_TIMEOUT");
    assert_eq!(said.into_inner().unwrap(), ["npm: tool is being installed by another process"]);
    // Another tool is not blocked.
    let other = NpmPackageSet::new("other", "{}", Lock::Text(lock("").into()), "node_modules/a/bin/a");
    cache.ensure(&other, |_| {}).await.unwrap();
    drop(held);
    ensure(&cache).await.unwrap();
}

#[tokio::test]
async fn gives_the_lock_back_though_a_child_holds_a_copy_of_it() {
    let host = Host::new(GOOD);
    let (cache, path) = (host.cache(), host.path("lock"));
    let held = lock::take(&path, "tool", Duration::ZERO, &cache.env, || {}).await.unwrap();
    let _copy = held.copy();
    assert!(lock::take(&path, "tool", Duration::ZERO, &cache.env, || {}).await.is_err());
    drop(held);
    assert!(lock::take(&path, "tool", Duration::ZERO, &cache.env, || {}).await.is_ok());
}

#[tokio::test]
async fn makes_a_lock_at_the_first_installation_and_keeps_to_it() {
    let made = lock("");
    let host = Host::new(&format!(
        "case $1 in install) echo made >> $ROOT/made; echo '{made}' > package-lock.json;; ci) {GOOD};; esac"
    ));
    let tool = NpmPackageSet::new("own", "{}", Lock::AtFirstInstall, "node_modules/a/bin/a");
    let installed = host.cache().ensure(&tool, |_| {}).await.unwrap();
    fs::remove_dir_all(&installed.dir).unwrap();
    assert_eq!(host.cache().ensure(&tool, |_| {}).await.unwrap(), installed);
    assert_eq!(fs::read_to_string(host.path("made")).unwrap(), "made\n");
    assert_eq!(host.runs(), 2);
}

#[tokio::test]
async fn reads_a_lock_of_the_operator_and_names_it_when_it_cannot_be_used() {
    let host = Host::new(GOOD);
    let path = host.path("package-lock.json");
    let tool = NpmPackageSet::new("own", "{}", Lock::File(path.clone()), "node_modules/a/bin/a");
    for text in [None, Some("{\"packages\": {\"node_modules/a\": {}}}")] {
        if let Some(text) = text {
            File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        }
        let e = host.cache().ensure(&tool, |_| {}).await.unwrap_err();
        assert_eq!((e.cause, e.reason), (Cause::Configuration, "TOOL_LOCK_UNREADABLE"));
        assert!(e.message.contains(path.to_str().unwrap()), "{e}");
    }
    fs::write(&path, lock("")).unwrap();
    host.cache().ensure(&tool, |_| {}).await.unwrap();
    assert_eq!(host.runs(), 1);
}

#[tokio::test]
async fn says_that_a_program_does_not_run_on_this_machine() {
    let host = Host::new(GOOD);
    let mut tool = tool();
    tool.try_run = Some("--version");
    let e = host.cache().ensure(&tool, |_| {}).await.unwrap_err();
    assert_eq!((e.cause, e.reason), (Cause::Configuration, "PLATFORM_UNSUPPORTED"));
    let program = "printf '#!/bin/sh\\nexit 0\\n' > node_modules/a/bin/a";
    host.script(&format!("{GOOD}; {program}"));
    host.cache().ensure(&tool, |_| {}).await.unwrap();
}
