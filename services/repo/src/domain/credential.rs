//! Credentials for private repositories: what one is for, what is accepted as one, and what is shown of it.

use bytes::Bytes;
use foundry_core::{Error, OrganizationId, RepositoryCredentialId, RepositoryId, Result, Timestamp};
use foundry_forge::AppInstallation;
use foundry_proto::common::v1::Condition;
use foundry_proto::repo::v1;
use foundry_secrets::Secret;
use serde::{Deserialize, Serialize};
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey};

use super::repository::{Repository, State as RepositoryState};

/// Largest secret in bytes.
const MAX_SECRET: usize = 8 << 10;
/// Most keys of a host.
const MAX_HOST_KEYS: usize = 16;
/// Longest user name in bytes.
const MAX_USERNAME: usize = 256;
/// The user name for a token; forges look at the token alone.
const TOKEN_USER: &str = "x-access-token";
/// The end of a shorter secret is not shown.
const SHOWN_FROM: usize = 16;

/// How a credential is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A token of a forge, over https.
    Token,
    /// A user name and a password, over https.
    Basic,
    /// A private key, over ssh.
    SshKey,
    /// The private key of a GitHub App, which gets a token for each repository from the host.
    GitHubApp,
}

impl Kind {
    const ALL: [(Self, &'static str, v1::RepositoryCredentialKind); 4] = [
        (Self::Token, "token", v1::RepositoryCredentialKind::Token),
        (Self::Basic, "basic", v1::RepositoryCredentialKind::Basic),
        (Self::SshKey, "ssh_key", v1::RepositoryCredentialKind::SshKey),
        (Self::GitHubApp, "github_app", v1::RepositoryCredentialKind::GithubApp),
    ];

    /// From a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for none.
    pub fn of_request(kind: i32) -> Result<Self> {
        let found = Self::ALL.iter().find(|(.., wire)| i32::from(*wire) == kind).map(|(kind, ..)| *kind);
        found.ok_or_else(|| Error::invalid_field("kind", "must be token, basic, ssh_key or github_app"))
    }

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, text, _)| text)
    }

    /// From a column.
    ///
    /// # Errors
    /// `INTERNAL` for one of a newer binary, which cannot be used.
    pub fn parse(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, known, _)| *known == text).map(|(kind, ..)| *kind);
        found.ok_or_else(|| Error::internal(format!("unknown kind of credential: {text}")))
    }

    fn to_proto(self) -> v1::RepositoryCredentialKind {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or(Default::default(), |(.., wire)| *wire)
    }

    /// Refuses an origin that is not reached in this way.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming `field`.
    pub fn check_origin(self, field: &str, origin: &str) -> Result<()> {
        let (needs, fits) = match self {
            Self::SshKey => ("a deploy key is for ssh", origin.starts_with("ssh://")),
            Self::Token | Self::Basic => ("a token or password is for https", !origin.starts_with("ssh://")),
            Self::GitHubApp => ("a GitHub App is for https", !origin.starts_with("ssh://")),
        };
        if fits { Ok(()) } else { Err(Error::invalid_field(field, format!("is {origin}, but {needs}"))) }
    }
}

/// Whether the remote accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not used yet.
    Untested,
    /// A test was requested.
    Testing,
    /// Accepted when it was last used.
    Working,
    /// Rejected, or not answered.
    Failed,
}

impl State {
    const ALL: [(Self, &'static str, v1::RepositoryCredentialState); 4] = [
        (Self::Untested, "untested", v1::RepositoryCredentialState::Untested),
        (Self::Testing, "testing", v1::RepositoryCredentialState::Testing),
        (Self::Working, "working", v1::RepositoryCredentialState::Working),
        (Self::Failed, "failed", v1::RepositoryCredentialState::Failed),
    ];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, ..)| *state == self).map_or("", |(_, text, _)| text)
    }

    /// Parses the stored text; an unknown one counts as untested.
    pub fn parse(text: &str) -> Self {
        Self::ALL.iter().find(|(_, known, _)| *known == text).map_or(Self::Untested, |(state, ..)| *state)
    }

    fn to_proto(self) -> v1::RepositoryCredentialState {
        Self::ALL.iter().find(|(state, ..)| *state == self).map_or(Default::default(), |(.., wire)| *wire)
    }
}

/// A key by which a host is recognized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostKey {
    /// As `ssh-ed25519 AAAA…`.
    pub public_key: String,
    /// When it was recorded, in microseconds.
    pub pin_time: i64,
    /// Whether it was given with the credential, not shown by the host.
    pub given: bool,
}

impl HostKey {
    /// In place of stored keys that cannot be decoded: no host has it, so that none is trusted instead of any.
    pub fn damaged() -> Self {
        Self { public_key: "damaged".to_owned(), pin_time: 0, given: true }
    }

    fn to_proto(&self) -> v1::RepositoryHostKey {
        let key = PublicKey::from_openssh(&self.public_key).ok();
        v1::RepositoryHostKey {
            algorithm: self.public_key.split(' ').next().unwrap_or_default().to_owned(),
            fingerprint: key.map(|key| fingerprint(&key)).unwrap_or_default(),
            public_key: self.public_key.clone(),
            pin_time: Some(Timestamp::from_micros(self.pin_time).to_proto()),
            given: self.given,
        }
    }
}

/// A stored credential.
#[derive(Clone, Debug)]
pub struct Credential {
    pub credential_id: RepositoryCredentialId,
    pub organization_id: OrganizationId,
    /// Revision of its last change.
    pub rev: i64,
    /// None = for all repositories of the organization at the origin.
    pub repository_id: Option<RepositoryId>,
    /// Scheme, host and port that it is sent to.
    pub origin: String,
    pub kind: Kind,
    pub username: String,
    /// What is shown of the secret.
    pub hint: String,
    /// Public half of a deploy key.
    pub public_key: String,
    /// The installation of a GitHub App.
    pub app: Option<AppInstallation>,
    /// Keys of the host that are accepted.
    pub host_keys: Vec<HostKey>,
    pub state: State,
    /// Why it is in this state.
    pub condition: Condition,
    /// When it came into its state by use.
    pub test_time: Option<Timestamp>,
    pub create_time: Timestamp,
    /// The encrypted secret.
    pub sealed: Bytes,
}

impl Credential {
    /// What it is for, unique in the organization: the repository's id, or the origin.
    pub fn target(&self) -> &str {
        self.repository_id.as_ref().map_or(self.origin.as_str(), RepositoryId::as_str)
    }

    /// To what its encryption is bound: moved to another row, organization or host, it cannot be read.
    pub fn binding(&self) -> String {
        format!("{} of {} for {} at {}", self.credential_id, self.organization_id, self.target(), self.origin)
    }

    /// The wire form, which has no secret.
    pub fn to_proto(&self) -> v1::RepositoryCredential {
        v1::RepositoryCredential {
            repository_credential_id: self.credential_id.to_string(),
            organization_id: self.organization_id.to_string(),
            kind: self.kind.to_proto().into(),
            repository_id: self.repository_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            origin: self.origin.clone(),
            username: self.username.clone(),
            hint: self.hint.clone(),
            public_key: self.public_key.clone(),
            host_keys: self.host_keys.iter().map(HostKey::to_proto).collect(),
            state: self.state.to_proto().into(),
            condition: Some(self.condition.clone()),
            create_time: Some(self.create_time.to_proto()),
            test_time: self.test_time.map(Timestamp::to_proto),
            rev: self.rev,
            github_app: self.app.as_ref().map(|app| v1::RepositoryGithubApp {
                app_id: app.app_id.clone(),
                installation_id: i64::try_from(app.installation_id).unwrap_or(i64::MAX),
            }),
        }
    }
}

/// Whether a repository is in an error that a credential may mend.
pub fn may_mend(repository: &Repository) -> bool {
    const REASONS: [&str; 7] = [
        "REPOSITORY_CREDENTIALS_REQUIRED",
        "REPOSITORY_CREDENTIALS_REFUSED",
        "REPOSITORY_HOST_KEY_CHANGED",
        "GITHUB_APP_REFUSED",
        "GITHUB_APP_NOT_INSTALLED",
        // Some hosts say so about what the caller may not see.
        "GIT_REMOTE_NOT_FOUND",
        "GIT_AUTH_REQUIRED",
    ];
    repository.state == RepositoryState::Error && REASONS.contains(&repository.condition.reason.as_str())
}

/// A secret as it is stored, and what is shown of it.
#[derive(Debug)]
pub struct Accepted {
    pub secret: Secret,
    pub username: String,
    pub hint: String,
    pub public_key: String,
}

/// Checks a secret of a kind.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field; nothing of the secret is in it.
pub fn accept(kind: Kind, username: &str, secret: &str) -> Result<Accepted> {
    if secret.is_empty() || secret.len() > MAX_SECRET {
        return Err(Error::invalid_field("secret", "must be 1 byte to 8 KiB"));
    }
    if kind == Kind::SshKey {
        if !username.is_empty() {
            return Err(Error::invalid_field(
                "username",
                "must be empty for a deploy key: the URL names the user",
            ));
        }
        return accept_key(secret);
    }
    if kind == Kind::GitHubApp {
        return accept_app_key(username, secret);
    }
    if secret.chars().any(char::is_control) {
        return Err(Error::invalid_field(
            "secret",
            "must not contain line breaks or other control characters",
        ));
    }
    if kind == Kind::Token && secret.contains(|c: char| !c.is_ascii_graphic()) {
        return Err(Error::invalid_field("secret", "must be a token without spaces"));
    }
    let username = match (kind, username) {
        (Kind::Token, "") => TOKEN_USER,
        (_, username) => username,
    };
    if username.is_empty() || username.len() > MAX_USERNAME {
        return Err(Error::invalid_field("username", "must be 1 to 256 bytes"));
    }
    if username.contains(|c: char| c == ':' || c.is_control()) {
        return Err(Error::invalid_field("username", "must not contain ':' or control characters"));
    }
    // A password is short and may be in use elsewhere.
    let is_shown = kind == Kind::Token && secret.len() >= SHOWN_FROM;
    let shown = secret.char_indices().rev().nth(3).filter(|_| is_shown);
    let hint = shown.map_or("", |(at, _)| &secret[at..]).to_owned();
    let username = username.to_owned();
    Ok(Accepted { secret: Secret::new(secret), username, hint, public_key: String::new() })
}

fn accept_app_key(username: &str, text: &str) -> Result<Accepted> {
    if !username.is_empty() {
        return Err(Error::invalid_field("username", "must be empty for a GitHub App"));
    }
    if !foundry_forge::is_app_key(text) {
        let why = "must be the private key of the app in PEM (BEGIN RSA PRIVATE KEY), as GitHub gives it out";
        return Err(Error::invalid_field("secret", why));
    }
    Ok(Accepted {
        secret: Secret::new(text.trim()),
        username: TOKEN_USER.to_owned(),
        hint: String::new(),
        public_key: String::new(),
    })
}

/// The installation that a request names, for the kind of credential that needs one.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field.
pub fn accept_app(kind: Kind, app: Option<&v1::RepositoryGithubApp>) -> Result<Option<AppInstallation>> {
    let app = match (kind, app) {
        (Kind::GitHubApp, Some(app)) => app,
        (Kind::GitHubApp, None) => {
            return Err(Error::invalid_field("github_app", "must name the app and its installation"));
        }
        (_, None) => return Ok(None),
        (_, Some(_)) => return Err(Error::invalid_field("github_app", "is for the kind github_app only")),
    };
    let is_id = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if !is_id(&app.app_id) {
        return Err(Error::invalid_field("github_app.app_id", "must be the id or the client id of the app"));
    }
    let installation_id = u64::try_from(app.installation_id).ok().filter(|id| *id > 0);
    let installation_id = installation_id
        .ok_or_else(|| Error::invalid_field("github_app.installation_id", "must be a number above 0"))?;
    Ok(Some(AppInstallation { app_id: app.app_id.clone(), installation_id }))
}

fn accept_key(text: &str) -> Result<Accepted> {
    let refused = |why: &str| Error::invalid_field("secret", why);
    // The parser's error might hold a piece of the key.
    let key = PrivateKey::from_openssh(text.trim()).map_err(|_| {
        refused(
            "must be a private key in OpenSSH's format (BEGIN OPENSSH PRIVATE KEY); `ssh-keygen -p -N '' -f FILE` \
             converts an older one",
        )
    })?;
    if key.is_encrypted() {
        return Err(refused("must be a private key without a passphrase"));
    }
    let public = key.public_key();
    let secret =
        key.to_openssh(LineEnding::LF).map_err(|_| refused("cannot be written in OpenSSH's format"))?;
    Ok(Accepted {
        secret: Secret::new(secret.as_bytes().to_vec()),
        username: String::new(),
        hint: fingerprint(public),
        public_key: plain(public)?,
    })
}

/// Reads keys of a host, in the format of `known_hosts` or of `ssh-keyscan`.
///
/// # Errors
/// `INVALID_ARGUMENT` for a line that is none.
pub fn given_host_keys(text: &str, now: Timestamp) -> Result<Vec<HostKey>> {
    let refused = |why: String| Error::invalid_field("host_keys", why);
    let mut keys: Vec<HostKey> = Vec::new();
    if text.len() > MAX_HOST_KEYS * MAX_SECRET {
        return Err(refused("is too large".to_owned()));
    }
    let lines = text.lines().map(str::trim).enumerate();
    for (at, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The host in front of the key is optional: it is the one of the credential.
        let pair = |from: usize| Some(format!("{} {}", words.get(from)?, words.get(from + 1)?));
        let key = [0, 1].into_iter().filter_map(pair).find_map(|text| PublicKey::from_openssh(&text).ok());
        let key = key.ok_or_else(|| refused(format!("has no public key of a host in line {}", at + 1)))?;
        let public_key = plain(&key)?;
        if keys.iter().all(|other| other.public_key != public_key) {
            keys.push(HostKey { public_key, pin_time: now.as_micros(), given: true });
        }
    }
    if keys.len() > MAX_HOST_KEYS {
        return Err(refused(format!("has {} keys; the limit is {MAX_HOST_KEYS}", keys.len())));
    }
    Ok(keys)
}

/// The keys that ssh has recorded on the first connection, if they are keys.
pub fn shown_host_keys(lines: &[String], now: Timestamp) -> Vec<HostKey> {
    let keys = lines.iter().filter_map(|line| PublicKey::from_openssh(line).ok());
    let keys = keys.filter_map(|key| plain(&key).ok());
    keys.map(|public_key| HostKey { public_key, pin_time: now.as_micros(), given: false }).collect()
}

/// The public key without a comment.
fn plain(key: &PublicKey) -> Result<String> {
    let mut key = key.clone();
    key.set_comment("");
    let text = key.to_openssh().map_err(|_| Error::internal("a public key cannot be written"))?;
    Ok(text.trim().to_owned())
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A key that is used nowhere.
    pub const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
        QyNTUxOQAAACB+FZ1TpKiTdCa1iRzFS/x/Tdm3XywLj6FliMfvU3n44QAAAIh65b64euW+\n\
        uAAAAAtzc2gtZWQyNTUxOQAAACB+FZ1TpKiTdCa1iRzFS/x/Tdm3XywLj6FliMfvU3n44Q\n\
        AAAECPgc6wHnIVzlq2E/zANNTrCaBxmK2q8Uli9WbbuEPzUn4VnVOkqJN0JrWJHMVL/H9N\n\
        2bdfLAuPoWWIx+9TefjhAAAAAAECAwQF\n-----END OPENSSH PRIVATE KEY-----\n";

    #[test]
    fn a_token_shows_its_end_and_a_key_its_fingerprint() {
        let token = accept(Kind::Token, "", "ghp_0123456789abcdefwxyz").unwrap();
        assert_eq!((token.username.as_str(), token.hint.as_str()), ("x-access-token", "wxyz"));
        assert_eq!(accept(Kind::Token, "", "short").unwrap().hint, "");
        assert_eq!(accept(Kind::Basic, "me", "a long password of many words").unwrap().hint, "");
        let key = accept(Kind::SshKey, "", &KEY.replace('\n', "\r\n")).unwrap();
        assert!(key.hint.starts_with("SHA256:") && key.public_key.starts_with("ssh-ed25519 AAAA"), "{key:?}");
        assert_eq!(key.secret.expose_str(), Some(KEY));
    }

    #[test]
    fn what_could_break_out_of_a_header_is_refused_without_repeating_it() {
        let long = "canary".repeat(2_000);
        for (kind, user, secret) in [
            (Kind::Token, "", ""),
            (Kind::Token, "", "canary canary"),
            (Kind::Token, "", "canary\r\nX: y"),
            (Kind::Basic, "me", "canary\n"),
            (Kind::Basic, "", "canary"),
            (Kind::Basic, "a:b", "canary"),
            (Kind::Basic, "a\nb", "canary"),
            (Kind::Token, "", long.as_str()),
            (Kind::SshKey, "", "canary"),
            (Kind::SshKey, "git", KEY),
            (Kind::GitHubApp, "", "canary"),
            (Kind::GitHubApp, "", KEY),
            (Kind::GitHubApp, "me", foundry_testkit::APP_KEY),
            (Kind::GitHubApp, "", "-----BEGIN RSA PRIVATE KEY-----\ncanary\n-----END RSA PRIVATE KEY-----\n"),
        ] {
            let refused = accept(kind, user, secret).unwrap_err();
            assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
        }
    }

    #[test]
    fn a_github_app_is_named_by_its_ids_and_its_key_is_accepted_as_it_is_given_out() {
        let app = |app_id: &str, installation_id| v1::RepositoryGithubApp {
            app_id: app_id.to_owned(),
            installation_id,
        };
        let found = accept_app(Kind::GitHubApp, Some(&app("Iv23.a-B", 7))).unwrap().unwrap();
        assert_eq!((found.app_id.as_str(), found.installation_id), ("Iv23.a-B", 7));
        assert_eq!(accept_app(Kind::Token, None).unwrap(), None);
        for (kind, wrong) in [
            (Kind::GitHubApp, None),
            (Kind::GitHubApp, Some(app("", 7))),
            (Kind::GitHubApp, Some(app("1/../2", 7))),
            (Kind::GitHubApp, Some(app("1", 0))),
            (Kind::GitHubApp, Some(app("1", -7))),
            (Kind::Token, Some(app("1", 7))),
        ] {
            assert!(accept_app(kind, wrong.as_ref()).is_err(), "{wrong:?}");
        }
        let windows = foundry_testkit::APP_KEY.replace('\n', "\r\n");
        let accepted = accept(Kind::GitHubApp, "", &windows).unwrap();
        assert_eq!((accepted.username.as_str(), accepted.hint.as_str()), ("x-access-token", ""));
    }

    #[test]
    fn host_keys_are_read_as_the_tools_of_ssh_write_them() {
        let public = accept(Kind::SshKey, "", KEY).unwrap().public_key;
        let text = format!("# scanned\n[h]:22,10.0.0.1 {public} comment\n\n{public}\n");
        let keys = given_host_keys(&text, Timestamp::default()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].public_key, public);
        for bad in ["ssh-ed25519", "h ssh-ed25519 AAAA", "@revoked h ssh-ed25519", "x"] {
            assert!(given_host_keys(bad, Timestamp::default()).is_err(), "{bad}");
        }
    }
}
