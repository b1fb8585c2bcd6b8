//! What one operation on a private remote needs to be let in. It reaches the git child through its environment: a
//! header for one origin, or a configuration of ssh beside a key in a directory of its own, which is removed when the
//! last clone of the [`Access`] is dropped. Nothing of it is in an argument, a URL or the configuration of a mirror.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundry_secrets::Secret;
use tempfile::TempDir;

use crate::mirror::blocking;
use crate::{GitError, Result};

/// Under this name the key of the host is recorded for ssh, whatever its address is.
const HOST_KEY_ALIAS: &str = "foundry";
/// Most host keys that are taken over.
const MAX_HOST_KEYS: usize = 16;
/// Shown in place of a secret.
const MASK: &str = "***";
/// Shorter parts of a secret are not searched for, as they would be found everywhere.
const SHORTEST: usize = 4;

/// Settings of ssh: the key, the recorded host key and nothing else decide. No setting of this machine has an effect.
const SSH_SETTINGS: &str = "\
IdentitiesOnly yes
IdentityAgent none
BatchMode yes
PreferredAuthentications publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
GlobalKnownHostsFile /dev/null
HashKnownHosts no
UpdateHostKeys no
CheckHostIP no
CanonicalizeHostname no
ProxyCommand none
ProxyJump none
ControlMaster no
ControlPath none
ForwardAgent no
ForwardX11 no
ClearAllForwardings yes
PermitLocalCommand no
AddKeysToAgent no
Tunnel no
EscapeChar none
ConnectTimeout 20
ServerAliveInterval 10
ServerAliveCountMax 3
LogLevel ERROR
";

/// The access to one origin, for one operation. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Access(Arc<Inner>);

impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Access {}

#[derive(Debug)]
struct Inner {
    /// As from [`crate::RemoteUrl::origin`].
    origin: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Http {
        /// The value of the header.
        header: Secret,
        /// What must not be seen in what git prints.
        hidden: Vec<Secret>,
    },
    Ssh {
        dir: TempDir,
        /// Whether a key of the host is recorded; the first one that it shows is taken otherwise.
        is_pinned: bool,
    },
}

impl Access {
    /// A user name and a password or token, sent as HTTP basic authentication to this origin only.
    pub fn basic(origin: impl Into<String>, username: &str, password: &Secret) -> Self {
        let mut pair = format!("{username}:").into_bytes();
        pair.extend_from_slice(password.expose());
        let pair = Secret::new(pair);
        let encoded = Secret::new(STANDARD.encode(pair.expose()));
        let mut header = b"Authorization: Basic ".to_vec();
        header.extend_from_slice(encoded.expose());
        let kind = Kind::Http { header: Secret::new(header), hidden: vec![encoded, password.clone()] };
        Self(Arc::new(Inner { origin: origin.into(), kind }))
    }

    /// A private key in OpenSSH's format, and the recorded keys of the host, each as `ssh-ed25519 AAAA…`. Both are
    /// written to a new directory below `parent`, which only this user can read.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub async fn ssh(
        origin: impl Into<String>,
        private_key: Secret,
        host_keys: Vec<String>,
        parent: &Path,
    ) -> Result<Self> {
        let (origin, parent) = (origin.into(), parent.to_owned());
        blocking(move || {
            let io = |e: std::io::Error| GitError::io("cannot prepare the key for ssh", &e);
            let dir = tempfile::Builder::new()
                .prefix("ssh-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .map_err(io)?;
            let known: String = host_keys.iter().map(|key| format!("{HOST_KEY_ALIAS} {key}\n")).collect();
            write_private(&dir.path().join("key"), private_key.expose()).map_err(io)?;
            write_private(&dir.path().join("known_hosts"), known.as_bytes()).map_err(io)?;
            let kind = Kind::Ssh { dir, is_pinned: !host_keys.is_empty() };
            Ok(Self(Arc::new(Inner { origin, kind })))
        })
        .await?
    }

    /// The keys of the host as ssh has recorded them: the given ones, or after the first connection the one that the
    /// host has shown. None for HTTP.
    pub async fn host_keys(&self) -> Vec<String> {
        let Kind::Ssh { dir, .. } = &self.0.kind else { return Vec::new() };
        let known = tokio::fs::read_to_string(dir.path().join("known_hosts")).await.unwrap_or_default();
        let keys = known.lines().filter_map(|line| line.split_once(' ')).map(|(_, key)| key.to_owned());
        keys.take(MAX_HOST_KEYS).collect()
    }

    pub(crate) fn origin(&self) -> &str {
        &self.0.origin
    }

    /// Configuration of git: the header, for the origin alone.
    pub(crate) fn http(&self) -> Result<(String, OsString)> {
        let Kind::Http { header, .. } = &self.0.kind else { return Err(wrong_kind()) };
        let header = header.expose_str().ok_or_else(wrong_kind)?;
        Ok((format!("http.{}/.extraHeader", self.0.origin), header.into()))
    }

    /// The value of the header `Authorization`.
    pub(crate) fn authorization(&self) -> Result<&str> {
        let Kind::Http { header, .. } = &self.0.kind else { return Err(wrong_kind()) };
        header.expose_str().and_then(|line| line.strip_prefix("Authorization: ")).ok_or_else(wrong_kind)
    }

    /// Variables for git: the program for ssh, with a configuration that leads to this address.
    pub(crate) async fn ssh_to(&self, address: IpAddr) -> Result<Vec<(&'static str, OsString)>> {
        let Kind::Ssh { dir, is_pinned } = &self.0.kind else { return Err(wrong_kind()) };
        let dir = dir.path().to_str().ok_or_else(|| GitError::failed("the data directory is not UTF-8"))?;
        // Only the path to the data directory comes from outside.
        if dir.contains(['"', '\'', '\n', '\\', '$']) {
            return Err(GitError::failed("ssh needs a data directory without quotes in its path"));
        }
        let config = ssh_config(dir, address, *is_pinned);
        let path = format!("{dir}/config");
        let written = path.clone();
        blocking(move || write_private(Path::new(&written), config.as_bytes()))
            .await?
            .map_err(|e| GitError::io("cannot prepare the configuration for ssh", &e))?;
        Ok(vec![("GIT_SSH_COMMAND", format!("ssh -F '{path}'").into()), ("GIT_SSH_VARIANT", "ssh".into())])
    }

    /// A text without the secret: a server may repeat what it was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        let Kind::Http { hidden, .. } = &self.0.kind else { return text.to_owned() };
        let hidden = hidden.iter().filter_map(Secret::expose_str).filter(|part| part.len() >= SHORTEST);
        hidden.fold(text.to_owned(), |text, part| text.replace(part, MASK))
    }
}

fn wrong_kind() -> GitError {
    GitError::failed("the credential is of another kind than the URL needs")
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(content)
}

fn ssh_config(dir: &str, address: IpAddr, is_pinned: bool) -> String {
    let checking = if is_pinned { "yes" } else { "accept-new" };
    // ssh expands `%` in these.
    let dir = dir.replace('%', "%%");
    let mut config = String::from("Host *\n");
    // Writing to a string cannot fail.
    let _ = writeln!(config, "HostName {address}");
    let _ = writeln!(config, "HostKeyAlias {HOST_KEY_ALIAS}");
    let _ = writeln!(config, "StrictHostKeyChecking {checking}");
    let _ = writeln!(config, "IdentityFile \"{dir}/key\"");
    let _ = writeln!(config, "UserKnownHostsFile \"{dir}/known_hosts\"");
    config.push_str(SSH_SETTINGS);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_for_one_origin_and_shown_nowhere() {
        let access = Access::basic("https://example.org", "me", &Secret::new("canary-1234"));
        let (key, value) = access.http().unwrap();
        assert_eq!(key, "http.https://example.org/.extraHeader");
        assert_eq!(value, "Authorization: Basic bWU6Y2FuYXJ5LTEyMzQ=");
        assert!(!format!("{access:?}").contains("canary"));
        let echoed = "remote: Authorization: Basic bWU6Y2FuYXJ5LTEyMzQ=, canary-1234 is wrong";
        assert_eq!(access.redact(echoed), "remote: Authorization: Basic ***, *** is wrong");
    }

    #[tokio::test]
    async fn the_key_is_in_a_directory_that_ends_with_the_access() {
        let parent = tempfile::tempdir().unwrap();
        let access = Access::ssh("ssh://h", Secret::new("key"), Vec::new(), parent.path()).await.unwrap();
        let env = access.ssh_to("203.0.113.7".parse().unwrap()).await.unwrap();
        let Kind::Ssh { dir, .. } = &access.0.kind else { panic!() };
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&dir.path().join("key"))), (0o700, 0o600));
        let config = std::fs::read_to_string(dir.path().join("config")).unwrap();
        assert!(config.contains("HostName 203.0.113.7\n") && config.contains("accept-new"), "{config}");
        assert_eq!(env[0].1, *format!("ssh -F '{}/config'", dir.path().display()));
        drop(access);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
