//! A host of Git repositories over ssh: a real `sshd` of the current user on a port of its own.

#![allow(clippy::expect_used)] // a failure here is a failed test

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Where the package of the distribution puts the program, which wants its absolute path.
const PROGRAM: &str = "/usr/sbin/sshd";

/// A running server; ended when dropped.
pub struct Sshd {
    dir: PathBuf,
    port: u16,
    user: String,
    process: Option<Child>,
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A new key pair in two files: the private key, and the public one beside it.
fn make_key(path: &Path) {
    drop(std::fs::remove_file(path));
    let path = path.to_str().expect("a path in UTF-8");
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]);
}

impl Sshd {
    /// Starts it on a free port of the loopback address, with its files in a directory that exists. It lets nobody in
    /// before [`Sshd::new_key`].
    ///
    /// # Panics
    /// When the program is missing or does not start.
    pub fn start(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: install the package openssh-server, or run `scripts/tools.sh checks`"
        );
        let user = run("id", &["-un"]);
        if user == "root" {
            // A server of root insists on it.
            std::fs::create_dir_all("/run/sshd").expect("/run/sshd");
        }
        make_key(&dir.join("host_key"));
        std::fs::write(dir.join("authorized_keys"), "").expect("a file");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut server = Self { dir, port, user, process: None };
        server.listen();
        server
    }

    fn listen(&mut self) {
        let dir = self.dir.display();
        let config = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {dir}/host_key\nAuthorizedKeysFile {dir}/authorized_keys\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nLogLevel INFO\n",
            self.port
        );
        std::fs::write(self.dir.join("sshd_config"), config).expect("a file");
        let mut process = Command::new(PROGRAM)
            .args(["-D", "-e", "-f", &format!("{dir}/sshd_config")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("sshd starts");
        let mut lines = BufReader::new(process.stderr.take().expect("its output")).lines();
        let mut seen = Vec::new();
        loop {
            let Some(Ok(line)) = lines.next() else { panic!("sshd did not start: {seen:?}") };
            let is_up = line.contains("Server listening on");
            seen.push(line);
            if is_up {
                break;
            }
        }
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        self.process = Some(process);
    }

    fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// The URL of a repository at an absolute path.
    pub fn url(&self, path: &Path) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port, path.display())
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("ssh://127.0.0.1:{}", self.port)
    }

    /// A new key pair that is let in from now on, in place of all others: the private key in OpenSSH's format.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new_key(&self) -> String {
        let path = self.dir.join("user_key");
        make_key(&path);
        std::fs::rename(path.with_extension("pub"), self.dir.join("authorized_keys")).expect("a rename");
        std::fs::read_to_string(path).expect("the key")
    }

    /// The fingerprint of the host's key, `SHA256:…`.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn fingerprint(&self) -> String {
        let key = self.dir.join("host_key.pub");
        let shown = run("ssh-keygen", &["-l", "-f", key.to_str().expect("a path in UTF-8")]);
        shown.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// Restarts it on the same port with another host key.
    ///
    /// # Panics
    /// When it does not start.
    pub fn change_host_key(&mut self) {
        self.end();
        make_key(&self.dir.join("host_key"));
        self.listen();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.end();
    }
}
