//! Checks of `git fsck` that the objects of one repository may fail, as the operator allows it.

use foundry_git::{RemoteUrl, UrlPolicy};

/// One check that the objects of one repository may fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedFinding {
    /// The remote, written as it is shown.
    url: String,
    check: String,
}

impl AllowedFinding {
    /// An entry `URL CHECK`.
    ///
    /// # Errors
    /// What is wrong: a part is missing, the URL is none that may be registered, or the check is no name. The entry is not
    /// quoted, as its URL may contain credentials.
    pub fn parse(entry: &str, urls: &UrlPolicy) -> Result<Self, String> {
        let form = "must be `URL CHECK`, such as `https://example.org/old.git missingEmail`";
        let refused = |why: &str| format!("{form}: {why}");
        let parts = entry.trim().rsplit_once(char::is_whitespace);
        let (url, check) = parts.ok_or_else(|| refused("the URL or the check is missing"))?;
        let is_name = check.starts_with(|c: char| c.is_ascii_alphabetic())
            && check.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_name {
            return Err(refused("what stands last is no name of a check"));
        }
        let url = url.trim();
        if url.contains(char::is_whitespace) && !url.starts_with('/') {
            return Err(refused("it names more than one check"));
        }
        let url = RemoteUrl::parse(url, urls).map_err(|e| refused(&e.to_string()))?;
        Ok(Self { url: url.display(), check: check.to_owned() })
    }
}

/// The checks that the objects of this remote may fail.
pub fn allowed<'a>(all: &'a [AllowedFinding], url: &RemoteUrl) -> impl Iterator<Item = &'a str> + use<'a> {
    let shown = url.display();
    all.iter().filter(move |finding| finding.url == shown).map(|finding| finding.check.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> UrlPolicy {
        UrlPolicy::embedded("/var/lib/foundry")
    }

    #[test]
    fn an_entry_allows_its_check_for_its_repository_and_for_no_other() {
        let entries = [
            "https://example.org/old.git missingEmail",
            "https://example.org/old.git  badTimezone",
            "/srv/a repo zeroPaddedFilemode",
            "git@Example.org:team/app.git missingSpaceBeforeDate",
        ];
        let all: Vec<_> =
            entries.iter().map(|entry| AllowedFinding::parse(entry, &policy()).unwrap()).collect();
        let of = |url: &str| allowed(&all, &RemoteUrl::parse(url, &policy()).unwrap()).collect::<Vec<_>>();
        assert_eq!(of("https://example.org/old.git"), ["missingEmail", "badTimezone"]);
        assert_eq!(of("https://EXAMPLE.org:443/old.git"), ["missingEmail", "badTimezone"], "the same remote");
        assert_eq!(of("/srv/a repo"), ["zeroPaddedFilemode"]);
        assert_eq!(of("git@example.org:team/app.git"), ["missingSpaceBeforeDate"]);
        for other in [
            "https://example.org/old",
            "https://example.org/old.git2",
            "https://example.org/team/old.git",
            "https://example.com/old.git",
            "ssh://git@example.org/old.git",
            "/srv/a",
        ] {
            assert_eq!(of(other), [""; 0], "{other}");
        }
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_refused_with_what_is_wrong() {
        for (entry, why) in [
            ("", "is missing"),
            ("missingEmail", "is missing"),
            ("https://example.org/old.git", "is missing"),
            ("https://example.org/old.git ", "is missing"),
            ("https://example.org/old.git missing-email", "is no name of a check"),
            ("https://example.org/old.git fetch.fsck.missingEmail", "is no name of a check"),
            ("https://example.org/old.git missingEmail=ignore", "is no name of a check"),
            ("missingEmail https://example.org/old.git", "is no name of a check"),
            ("old.git missingEmail", "the repository URL"),
            ("https://user:secret@example.org/old.git missingEmail", "contains credentials"),
            ("https://example.org/old.git missingEmail badTimezone", "more than one check"),
        ] {
            let error = AllowedFinding::parse(entry, &policy()).unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{entry}: {error}");
        }
    }
}
