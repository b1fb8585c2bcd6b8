//! bubblewrap: what a sandbox can see, by allow-list, and a check whether it works on this host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use foundry_core::Env;
use foundry_sandbox::{Isolation, Network, ProviderError};

use crate::layout::Layout;
use crate::network::{self, Shared};
use crate::{settle::undecided, tail};

/// The user's home directory, as the sandbox sees it.
pub(crate) const HOME: &str = "/home/agent";
/// The work tree, as the sandbox sees it.
pub(crate) const WORKSPACE: &str = "/workspace";
/// The tool cache, as the sandbox sees it.
pub(crate) const TOOLS: &str = "/opt/foundry/tools";
/// Our own binary, as the sandbox sees it.
pub(crate) const BINARY: &str = "/opt/foundry/bin/foundry";
/// The directory with the socket of the model gateway, as the sandbox sees it.
pub(crate) const MESH: &str = "/run/foundry";

/// The parts of the host's `/etc` that programs need; absent ones are left out.
const ETC: [&str; 17] = [
    "hosts",
    "host.conf",
    "resolv.conf",
    "nsswitch.conf",
    "services",
    "protocols",
    "ssl",
    "ca-certificates",
    "pki",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "localtime",
    "timezone",
    "mime.types",
    "gai.conf",
];

/// The links or directories beside `/usr` on which every program depends.
const USR_COMPANIONS: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What is mounted besides the base system.
pub(crate) struct Mounts<'a> {
    pub layout: &'a Layout,
    pub tools: &'a Path,
    pub binary: &'a Path,
    /// The directory with the socket of the model gateway.
    pub mesh: Option<&'a Path>,
    pub extra: &'a [PathBuf],
    /// Files for programs inside to find the proxy and the certificates.
    pub shared: &'a Shared,
}

/// The options common to every sandbox: namespaces, no capabilities, the base system read-only.
fn base(uid: Option<u32>, own_network: bool) -> Vec<String> {
    let mut a = Args(Vec::new());
    if own_network {
        // With a loopback and nothing else; the host's abstract sockets are out of reach, too.
        a.all(["--unshare-net"]);
    }
    a.all(["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
    a.all(["--hostname", "sandbox", "--new-session", "--clearenv", "--cap-drop", "ALL"]);
    match uid {
        // Just enough to drop root inside; both capabilities are dropped with it.
        Some(_) => a.all(["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]),
        None => a.all(["--unshare-user", "--disable-userns"]),
    }
    a.all(["--ro-bind", "/usr", "/usr"]);
    for path in USR_COMPANIONS {
        match fs::symlink_metadata(path) {
            Ok(m) if m.is_symlink() => {
                if let Ok(target) = fs::read_link(path) {
                    a.all(["--symlink", &target.to_string_lossy(), path]);
                }
            }
            Ok(m) if m.is_dir() => a.all(["--ro-bind", path, path]),
            _ => {}
        }
    }
    a.all(["--perms", "0755", "--dir", "/etc"]);
    for name in ETC {
        let path = format!("/etc/{name}");
        a.all(["--ro-bind-try", &path, &path]);
    }
    // A distribution's Java has its settings there and does not start without them.
    let names = fs::read_dir("/etc").into_iter().flatten().flatten().map(|e| e.file_name());
    for name in names.filter_map(|n| n.into_string().ok()).filter(|n| n.starts_with("java-")) {
        let path = format!("/etc/{name}");
        a.all(["--ro-bind-try", &path, &path]);
    }
    a.all(["--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm"]);
    for dir in ["/etc/ssh", "/home", "/opt", "/opt/foundry", "/opt/foundry/bin", "/run", "/var"] {
        a.all(["--perms", "0755", "--dir", dir]);
    }
    a.all(["--symlink", "/tmp", "/var/tmp"]);
    a.0
}

/// The arguments of bwrap up to the command.
pub(crate) fn arguments(
    mounts: &Mounts<'_>,
    uid: Option<u32>,
    network: &Network,
    env: &[(String, String)],
) -> Vec<String> {
    let mut a = Args(base(uid, network.is_own()));
    let etc = mounts.layout.etc();
    for name in ["passwd", "group"] {
        a.bind("--ro-bind", &etc.join(name), &format!("/etc/{name}"));
    }
    a.bind("--ro-bind", mounts.tools, TOOLS);
    a.bind("--ro-bind", mounts.binary, BINARY);
    if let Some(mesh) = mounts.mesh {
        a.bind("--ro-bind", mesh, MESH);
    }
    a.bind("--ro-bind", &mounts.shared.directory, network::INSIDE);
    for (from, to) in mounts.shared.covers(network) {
        a.bind("--ro-bind", &from, &to.to_string_lossy());
    }
    for path in mounts.extra {
        // Parent directories made by bwrap itself would not be accessible to the user inside.
        let mut way: Vec<_> = path.ancestors().skip(1).filter(|p| p.parent().is_some()).collect();
        way.reverse();
        for directory in way {
            a.all(["--perms", "0755", "--dir", &directory.to_string_lossy()]);
        }
        a.bind("--ro-bind", path, &path.to_string_lossy());
    }
    a.bind("--bind", &mounts.layout.home(), HOME);
    a.bind("--bind", &mounts.layout.workspace(), WORKSPACE);
    a.bind("--bind", &mounts.layout.tmp(), "/tmp");
    // Without a user of its own, the sandbox owns its root directory and could fill the memory there.
    a.all(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKSPACE]);
    for (key, value) in env {
        a.all(["--setenv", key, value]);
    }
    a.0.push("--".to_owned());
    a.0
}

struct Args(Vec<String>);

impl Args {
    fn all<'a>(&mut self, items: impl IntoIterator<Item = &'a str>) {
        self.0.extend(items.into_iter().map(str::to_owned));
    }

    fn bind(&mut self, how: &str, from: &Path, to: &str) {
        self.all([how, &from.to_string_lossy(), to]);
    }
}

/// Time limit of a trial: for the first attempt, and the longest.
pub(crate) const TRIAL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(40));

/// The result of a trial.
enum Trial {
    Works(String),
    Fails(String),
}

/// Whether sandboxes are isolated here, and whether they can have networks of their own, or the reason why not.
pub(crate) type Detected = (Isolation, Result<(), String>);

/// Tries bwrap with the very options of sandboxes: a host may have bwrap and forbid what it needs. Also tries whether
/// sandboxes can have networks of their own.
///
/// # Errors
/// When a trial does not end: this shows nothing about what the host allows, and must not count as a result.
pub(crate) async fn detect(
    bwrap: &Path,
    uid: Option<u32>,
    env: &Env,
    limit: (Duration, Duration),
) -> Result<Detected, ProviderError> {
    let none = |reason: String| Ok((Isolation::None { reason: reason.clone() }, Err(reason)));
    let version = match output(bwrap, &["--version".to_owned()], env, limit).await? {
        Trial::Works(text) => text.trim().trim_start_matches("bubblewrap ").to_owned(),
        Trial::Fails(reason) => return none(format!("bubblewrap is not usable: {reason}")),
    };
    let trial = async |own_network| {
        let mut trial = base(uid, own_network);
        trial.extend(["--", "/usr/bin/true"].map(str::to_owned));
        output(bwrap, &trial, env, limit).await
    };
    let Trial::Fails(without_network) = trial(true).await? else {
        return Ok((Isolation::Bubblewrap { version, uid }, Ok(())));
    };
    match trial(false).await? {
        Trial::Works(_) => Ok((Isolation::Bubblewrap { version, uid }, Err(without_network))),
        Trial::Fails(reason) => none(format!("bubblewrap {version} does not work here: {reason}")),
    }
}

/// Runs it, and again with twice the time when it does not end: a busy host is slow, but no less capable.
async fn output(
    program: &Path,
    args: &[String],
    env: &Env,
    (mut limit, longest): (Duration, Duration),
) -> Result<Trial, ProviderError> {
    loop {
        let child = tokio::process::Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(e) => return Ok(Trial::Fails(format!("{}: {e}", program.display()))),
        };
        tokio::select! {
            output = child.wait_with_output() => return Ok(match output {
                Ok(o) if o.status.success() => Trial::Works(String::from_utf8_lossy(&o.stdout).into_owned()),
                Ok(o) => Trial::Fails(tail(&String::from_utf8_lossy(&o.stderr), 300)),
                Err(e) => Trial::Fails(e.to_string()),
            }),
            () = env.clock.sleep(limit) => {}
        }
        if limit >= longest {
            let message = format!(
                "{} did not finish within {} s, so it is unknown which isolation works on this host",
                program.display(),
                limit.as_secs()
            );
            return Err(undecided(message));
        }
        limit = (limit * 2).min(longest);
        tracing::warn!(program = %program.display(), "a bubblewrap test did not finish; retrying");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use foundry_core::{Clock, SystemClock, Timestamp};
    use foundry_sandbox::Class;

    use super::*;

    /// The rule for sandboxes: only what is listed is mounted, and only three places are writable.
    #[test]
    fn mounts_by_allow_list_and_writes_only_to_home_workspace_and_tmp() {
        let layout = Layout { dir: "/data/sandboxes/sbx_1".into() };
        let (tools, binary) = (Path::new("/data/cache/tools"), Path::new("/usr/local/bin/foundry"));
        let mesh = Path::new("/data/mesh");
        let shared = Shared { directory: "/data/sandboxes/.network".into(), has_ca: true };
        let mounts = Mounts { layout: &layout, tools, binary, mesh: Some(mesh), extra: &[], shared: &shared };
        let args = arguments(&mounts, Some(64_001), &Network::public(), &[("A".into(), "b".into())]);
        let pairs = |how: &str| -> Vec<(&str, &str)> {
            args.windows(3).filter(|w| w[0] == how).map(|w| (w[1].as_str(), w[2].as_str())).collect()
        };
        assert_eq!(
            pairs("--bind"),
            [
                ("/data/sandboxes/sbx_1/home", HOME),
                ("/data/sandboxes/sbx_1/repo/workspace", WORKSPACE),
                ("/data/sandboxes/sbx_1/tmp", "/tmp"),
            ]
        );
        let read_only: Vec<_> = pairs("--ro-bind").into_iter().chain(pairs("--ro-bind-try")).collect();
        for (from, _) in read_only {
            let listed = from == "/usr"
                || from.starts_with("/etc/")
                || USR_COMPANIONS.contains(&from)
                || [tools, binary, mesh].contains(&Path::new(from))
                || from.starts_with("/data/sandboxes/.network")
                || from.starts_with("/data/sandboxes/sbx_1/etc/");
            assert!(listed, "{from} is mounted and not on the list");
        }
        for needed in
            ["--remount-ro", "--unshare-net", "--unshare-pid", "--unshare-ipc", "--clearenv", "--new-session"]
        {
            assert!(args.iter().any(|a| a == needed), "{needed} is missing");
        }
        assert!(args.windows(2).any(|w| w[0] == "--cap-drop" && w[1] == "ALL"));
        assert!(!args.iter().any(|a| a == "--die-with-parent" || a == "--dev-bind" || a == "--share-net"));
        let of_the_host = arguments(&mounts, None, &Network::Host, &[]);
        assert!(!of_the_host.iter().any(|a| a == "--unshare-net"));
    }

    /// The file that a stuck bwrap makes when it hangs.
    const HANGS: &str = "hangs";

    /// A clock on which a trial's limit is reached once [`stuck`] hangs in this directory, however long a busy host
    /// takes to start it; other trials have all the time they need.
    pub(crate) fn env(dir: &Path) -> Env {
        Env { clock: Arc::new(LimitClock(dir.join(HANGS))), ..Env::system() }
    }

    struct LimitClock(PathBuf);

    #[async_trait::async_trait]
    impl Clock for LimitClock {
        fn now(&self) -> Timestamp {
            SystemClock.now()
        }

        async fn sleep(&self, _: Duration) {
            // Each hang ends one trial.
            while fs::remove_file(&self.0).is_err() {
                SystemClock.sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// A bwrap that hangs `times` times when it should make a network, and then runs the script `then`.
    pub(crate) fn stuck(dir: &Path, times: usize, then: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let program = dir.join("bwrap");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in --version) echo 'bubblewrap 9.9'; exit 0;; esac\n\
             case \"$*\" in *--unshare-net*) ;; *) exit 0;; esac\n\
             echo x >> {0}/tried\n[ $(wc -l < {0}/tried) -le {times} ] && : > {0}/{HANGS} && exec sleep 60\n\
             {then}\n",
            dir.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[tokio::test]
    async fn a_trial_that_does_not_end_is_tried_again_and_never_taken_for_a_refusal() {
        let tried = async |times, then: &str| {
            let dir = tempfile::tempdir().unwrap();
            let limit = (Duration::from_millis(700), Duration::from_millis(1_400));
            detect(&stuck(dir.path(), times, then), None, &env(dir.path()), limit).await
        };
        let (_, own_network) = tried(1, "exit 0").await.unwrap();
        assert_eq!(own_network, Ok(()), "slow, and it works");
        let undecided = tried(9, "").await.unwrap_err();
        assert_eq!((undecided.reason, undecided.class), ("ISOLATION_UNDECIDED", Class::Timeout));
        let (_, own_network) = tried(0, "echo 'loopback: not permitted' >&2; exit 1").await.unwrap();
        assert_eq!(own_network, Err("loopback: not permitted".to_owned()));
    }
}
