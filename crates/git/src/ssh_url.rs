//! Addresses of repositories that are reached by ssh: `ssh://git@host:port/path` and `git@host:path`.

use url::{Host, Url};

use crate::url_policy::UrlError;

pub(crate) const DEFAULT_PORT: u16 = 22;

/// An address whose parts can be taken for no option and no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshUrl {
    pub(crate) user: String,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
    pub(crate) path: String,
    /// Whether the path is relative to the home directory of the user, as in `git@host:path`.
    relative: bool,
}

impl SshUrl {
    /// What git is given.
    pub(crate) fn operand(&self) -> String {
        let Self { user, host, port, path, relative } = self;
        match (relative, *port == DEFAULT_PORT) {
            (true, _) => format!("{user}@{host}:{path}"),
            (false, true) => format!("ssh://{user}@{host}{path}"),
            (false, false) => format!("ssh://{user}@{host}:{port}{path}"),
        }
    }

    pub(crate) fn origin(&self) -> String {
        match self.port {
            DEFAULT_PORT => format!("ssh://{}", self.host),
            port => format!("ssh://{}:{port}", self.host),
        }
    }
}

/// The long form, of which all but the user, the host and the port is a path.
pub(crate) fn parse(url: &Url) -> Result<SshUrl, UrlError> {
    if url.password().is_some() {
        return Err(UrlError::HasCredentials);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(UrlError::Malformed("must have no query or fragment"));
    }
    let host = url.host_str().ok_or(UrlError::Malformed("must have a host"))?;
    let path = checked_path(url.path())?;
    if path.len() < 2 {
        return Err(UrlError::Malformed("must have a path"));
    }
    Ok(SshUrl {
        user: checked_user(url.username())?,
        host: checked_host(host)?,
        port: url.port().unwrap_or(DEFAULT_PORT),
        path,
        relative: false,
    })
}

/// The short form, with a user, since anything with a colon would be a host and a path without one.
pub(crate) fn parse_short(text: &str) -> Result<SshUrl, UrlError> {
    const FORM: UrlError = UrlError::Malformed(
        "is neither https://host/path, ssh://user@host/path, user@host:path nor an absolute path",
    );
    let (user, rest) = text.split_once('@').ok_or(FORM)?;
    let (host, path) = rest.split_once(':').ok_or(FORM)?;
    if path.is_empty() || path.starts_with('-') || path.split('/').any(|part| part == "..") {
        return Err(UrlError::Malformed("must have a path without '..' that does not start with '-'"));
    }
    let host = checked_host(host)?;
    if matches!(host, Host::Ipv6(_)) {
        return Err(UrlError::Malformed("with an IPv6 address must be written as ssh://user@[address]/path"));
    }
    Ok(SshUrl {
        user: checked_user(user)?,
        host,
        port: DEFAULT_PORT,
        path: checked_path(path)?,
        relative: true,
    })
}

fn checked_user(user: &str) -> Result<String, UrlError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if user.is_empty() {
        return Err(UrlError::Malformed("for ssh must name a user, such as ssh://git@host/path"));
    }
    if user.starts_with('-') || user.len() > 64 || !user.chars().all(is_plain) {
        return Err(UrlError::Malformed("for ssh must have a user of letters, digits, '.', '_' and '-'"));
    }
    Ok(user.to_owned())
}

fn checked_host(host: &str) -> Result<Host<String>, UrlError> {
    Host::parse(host).map_err(|_| UrlError::Malformed("must have a valid host"))
}

/// Git would decode what is encoded, and the remote's shell sees the path.
fn checked_path(path: &str) -> Result<String, UrlError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-~+@".contains(c);
    if !path.chars().all(is_plain) {
        return Err(UrlError::Malformed("for ssh must have a path of letters, digits and /._-~+@"));
    }
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use crate::{RemoteUrl, UrlPolicy};

    #[test]
    fn both_forms_keep_what_they_name_and_have_the_origin_of_their_host() {
        let parse = |text| RemoteUrl::parse(text, &UrlPolicy::default()).unwrap();
        for (text, shown, origin, name) in [
            ("git@GitHub.com:a/b.git", "git@github.com:a/b.git", "ssh://github.com", "b"),
            ("ssh://git@github.com/a/b.git", "ssh://git@github.com/a/b.git", "ssh://github.com", "b"),
            ("ssh://git@github.com:22/a/b", "ssh://git@github.com/a/b", "ssh://github.com", "b"),
            ("ssh://me@h.example:2222/~/x", "ssh://me@h.example:2222/~/x", "ssh://h.example:2222", "x"),
            ("SSH://git@8.8.8.8/x", "ssh://git@8.8.8.8/x", "ssh://8.8.8.8", "x"),
            ("ssh://git@[2606:4700::1]:9/x", "ssh://git@[2606:4700::1]:9/x", "ssh://[2606:4700::1]:9", "x"),
        ] {
            let url = parse(text);
            assert_eq!(
                (url.display().as_str(), url.origin().as_deref(), url.short_name().as_str()),
                (shown, Some(origin), name)
            );
        }
    }

    #[test]
    fn what_could_be_an_option_or_a_command_is_refused() {
        for (text, reason) in [
            ("ssh://-oProxyCommand=id/x", "URL_MALFORMED"),
            ("ssh://git@-oProxyCommand=id/x", "URL_MALFORMED"),
            ("ssh://git@-h/x", "URL_MALFORMED"),
            ("ssh://-l@host/x", "URL_MALFORMED"),
            ("git@-oProxyCommand=id:x", "URL_MALFORMED"),
            ("-git@host:x", "URL_MALFORMED"),
            ("git@host:-x", "URL_MALFORMED"),
            ("git@host:../x", "URL_MALFORMED"),
            ("git@host:", "URL_MALFORMED"),
            ("git@host:a;id", "URL_MALFORMED"),
            ("git@host:$(id)", "URL_MALFORMED"),
            ("git@host:a b", "URL_MALFORMED"),
            ("host:x", "URL_MALFORMED"),
            ("ssh://host/x", "URL_MALFORMED"),
            ("ssh://git@host/a%0ab", "URL_MALFORMED"),
            ("ssh://git@host/../x", "URL_MALFORMED"),
            ("ssh://git@host:99999/x", "URL_MALFORMED"),
            ("ssh://git@host", "URL_MALFORMED"),
            ("ssh://git@host/x?y", "URL_MALFORMED"),
            ("ssh://git:secret@host/x", "URL_HAS_CREDENTIALS"),
            ("git+ssh://git@host/x", "URL_SCHEME_NOT_ALLOWED"),
            ("ssh://git@127.0.0.1/x", "URL_ADDRESS_NOT_ALLOWED"),
            ("ssh://git@2130706433/x", "URL_ADDRESS_NOT_ALLOWED"),
            ("git@localhost:x", "URL_ADDRESS_NOT_ALLOWED"),
            ("git@0x7f.1:x", "URL_ADDRESS_NOT_ALLOWED"),
        ] {
            let refused = RemoteUrl::parse(text, &UrlPolicy::default()).map(|url| url.display());
            assert_eq!(refused.map_err(|e| e.reason()), Err(reason), "{text}");
        }
    }
}
