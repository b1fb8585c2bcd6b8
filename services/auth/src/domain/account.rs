//! Who somebody is at an identity provider, and whether that lets them in.

use serde::{Deserialize, Serialize};

/// An account at an identity provider, as the provider described it at a sign-in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identified {
    /// Who vouches for the account: the issuer of OpenID Connect, or the origin of GitHub.
    pub(crate) issuer: String,
    /// The immutable id of the account there.
    pub(crate) subject: String,
    /// The name that people know it by; it may change, and be given to somebody else.
    pub(crate) login: String,
    /// The name for display; may be empty.
    pub(crate) display_name: String,
    /// The e-mail address, only if the provider has verified it; else empty.
    pub(crate) email: String,
    /// Address of a picture; may be empty.
    pub(crate) picture_url: String,
    /// Which of the allowed organizations and teams it belongs to, as they are configured.
    pub(crate) groups: Vec<String>,
}

/// What lets an account in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmittedBy {
    /// The set-up secret of the data directory.
    SetUp,
    /// A list of the configuration, which must still name it at each sign-in.
    List,
}

impl AdmittedBy {
    /// The text in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SetUp => "set_up",
            Self::List => "list",
        }
    }

    /// From what is stored; anything unknown needs the list.
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "set_up" => Self::SetUp,
            _ => Self::List,
        }
    }
}

/// Longest text that is kept of what a provider says.
const MAX_TEXT: usize = 200;
const MAX_LOGIN: usize = 39;

/// Whether a list of the configuration names the account: one of its groups, or the domain of its verified address.
pub(crate) fn is_listed(account: &Identified, domains: &[String]) -> bool {
    let domain = account.email.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
    !account.groups.is_empty() || domain.is_some_and(|domain| domains.contains(&domain))
}

/// The login of a user here that comes next to the one at the provider: lower case, a-z, 0-9 and `-`. An address counts
/// with the part before the `@`.
pub(crate) fn login_like(text: &str) -> String {
    let name = text.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let mut login = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | '0'..='9' => login.push(c),
            _ if login.is_empty() || login.ends_with('-') => {}
            _ => login.push('-'),
        }
        if login.len() == MAX_LOGIN {
            break;
        }
    }
    let login = login.trim_end_matches('-');
    if login.is_empty() { "user".to_owned() } else { login.to_owned() }
}

/// The login with a number, where the plain one belongs to somebody else.
pub(crate) fn numbered(login: &str, number: u32) -> String {
    let suffix = format!("-{number}");
    let stem: String = login.chars().take(MAX_LOGIN - suffix.len()).collect();
    format!("{}{suffix}", stem.trim_end_matches('-'))
}

/// Whether this login is the wanted one, plain or with a number.
pub(crate) fn is_login_for(login: &str, wanted: &str) -> bool {
    let number = login.rsplit_once('-').and_then(|(_, number)| number.parse::<u32>().ok());
    login == wanted || number.is_some_and(|number| number > 1 && numbered(wanted, number) == login)
}

/// A text of a provider as it is kept: one line, without characters that hide or reorder others, and not long.
pub(crate) fn plain_text(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control() && !super::name::is_deceptive(*c));
    shown.take(MAX_TEXT).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(email: &str, groups: &[&str]) -> Identified {
        Identified {
            email: email.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..Identified::default()
        }
    }

    #[test]
    fn a_list_names_a_group_or_exactly_a_domain() {
        let domains = ["corp.example".to_owned()];
        assert!(is_listed(&with("a@corp.example", &[]), &domains));
        assert!(is_listed(&with("a@CORP.example", &[]), &domains));
        assert!(is_listed(&with("", &["acme"]), &[]));
        for bad in
            ["", "corp.example", "a@evil-corp.example", "a@sub.corp.example", "a@corp.example@evil.example"]
        {
            assert!(!is_listed(&with(bad, &[]), &domains), "{bad}");
        }
    }

    #[test]
    fn any_name_becomes_a_login() {
        for (text, login) in [
            ("Octo-Cat", "octo-cat"),
            ("ada.lovelace@corp.example", "ada-lovelace"),
            ("-rf", "rf"),
            ("../x", "x"),
            ("Łukasz", "ukasz"),
            ("日本", "user"),
            ("", "user"),
            ("a--b", "a-b"),
        ] {
            assert_eq!(login_like(text), login);
            assert!(crate::domain::name::parse_name("login", login).is_ok());
        }
        let long = login_like(&"x".repeat(80));
        assert_eq!((long.len(), numbered(&long, 12).len()), (39, 39));
        assert_eq!(numbered("octo", 2), "octo-2");
    }

    #[test]
    fn a_login_with_a_number_is_still_that_of_its_owner() {
        let long = login_like(&"x".repeat(80));
        for (login, wanted) in [("octo", "octo"), ("octo-2", "octo"), (&numbered(&long, 123_456), &long)] {
            assert!(is_login_for(login, wanted), "{login}");
        }
        for (login, wanted) in [
            ("octo", "octo-2"),
            ("octo-1", "octo"),
            ("octo-02", "octo"),
            ("octo-x", "octo"),
            ("hub-2", "octo"),
        ] {
            assert!(!is_login_for(login, wanted), "{login}");
        }
    }

    #[test]
    fn a_name_shows_as_itself() {
        assert_eq!(plain_text(" Ada\u{202e}\n\u{1b}[31m Lovelace "), "Ada[31m Lovelace");
        assert_eq!(plain_text(&"x".repeat(500)).len(), 200);
    }
}
