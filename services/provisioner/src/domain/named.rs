//! Named values, some of them secret: splits them into what everybody may read and the secrets.

use std::collections::BTreeMap;

use foundry_core::Error;
use foundry_proto::common::v1::named_value::Content;
use foundry_proto::common::v1::{NamedValue, SecretText};
use foundry_secrets::Secret;

/// Largest value in bytes, secret or not.
pub const MAX_VALUE: usize = 8 << 10;
/// Most headers of a list.
pub const MAX_HEADERS: usize = 16;
/// Most variables of a list.
pub const MAX_VARIABLES: usize = 64;

/// The secrets of one row, by place: `credential`, `headers/NAME`, `environment/NAME`, `mcp/SERVER/NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, Secret>);

impl Secrets {
    /// Keeps a secret at a place.
    pub fn put(&mut self, place: impl Into<String>, secret: Secret) {
        self.0.insert(place.into(), secret);
    }

    /// The secret at a place.
    pub fn get(&self, place: &str) -> Option<&Secret> {
        self.0.get(place)
    }

    /// Forgets all secrets whose place begins with `prefix`.
    pub fn forget(&mut self, prefix: &str) {
        self.0.retain(|place, _| !place.starts_with(prefix));
    }

    /// Whether there is one whose place begins with `prefix`.
    pub fn has(&self, prefix: &str) -> bool {
        self.0.keys().any(|place| place.starts_with(prefix))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As bytes to be sealed.
    ///
    /// # Errors
    /// `INTERNAL` when one is not text, which [`take`] does not let in.
    pub fn to_secret(&self) -> Result<Secret, Error> {
        let texts = self.0.iter().map(|(place, secret)| Some((place.as_str(), secret.expose_str()?)));
        let texts: Option<BTreeMap<&str, &str>> = texts.collect();
        let texts = texts.ok_or_else(|| Error::internal("a stored secret of a row is not text"))?;
        serde_json::to_vec(&texts).map(Secret::new).map_err(Error::internal)
    }

    /// From what was sealed.
    ///
    /// # Errors
    /// `INTERNAL` when it is not what [`Secrets::to_secret`] makes.
    pub fn from_secret(secret: &Secret) -> Result<Self, Error> {
        // The parser's error would hold a piece of the text.
        let texts: BTreeMap<String, String> = serde_json::from_slice(secret.expose())
            .map_err(|_| Error::internal("the stored secrets of a row have an unexpected format"))?;
        Ok(Self(texts.into_iter().map(|(place, text)| (place, Secret::new(text))).collect()))
    }
}

/// What the names and values of a list must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP headers; names are compared without case.
    Header,
    /// Environment variables; names are case-sensitive.
    Variable,
}

/// Headers that belong to the connection or to the credential.
const OWN_HEADERS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "accept-encoding",
];
/// Variables that the sandbox sets itself.
const OWN_VARIABLES: &str = "FOUNDRY_";

/// Checks a list and moves its secrets out of it to `prefix` + name. An empty secret keeps the one in `old`.
/// What remains may be shown and stored.
///
/// # Errors
/// `INVALID_ARGUMENT` naming `field`; no text of a value is in it.
pub fn take(
    field: &str,
    prefix: &str,
    kind: Kind,
    list: Vec<NamedValue>,
    old: &Secrets,
    secrets: &mut Secrets,
) -> Result<Vec<NamedValue>, Error> {
    let most = if kind == Kind::Header { MAX_HEADERS } else { MAX_VARIABLES };
    if list.len() > most {
        return Err(Error::invalid_field(field, format!("has {} entries; the limit is {most}", list.len())));
    }
    let mut shown: Vec<NamedValue> = Vec::with_capacity(list.len());
    for NamedValue { name, content } in list {
        check_name(field, kind, &name)?;
        if shown.iter().any(|other| same(kind, &other.name, &name)) {
            return Err(Error::invalid_field(field, format!("contains {name} twice")));
        }
        let content = match content {
            None => Content::Value(String::new()),
            Some(Content::Value(value)) => {
                check_value(field, &name, kind, &value)?;
                Content::Value(value)
            }
            Some(Content::Secret(SecretText { value })) => {
                let place = format!("{prefix}{name}");
                let secret =
                    if value.is_empty() { old.get(&place).cloned() } else { Some(Secret::new(value)) };
                let secret = secret.ok_or_else(|| {
                    Error::invalid_field(
                        field,
                        format!("has no secret for {name}: provide one, or remove the entry"),
                    )
                })?;
                check_value(field, &name, kind, secret.expose_str().unwrap_or_default())?;
                secrets.put(place, secret);
                Content::Secret(SecretText::default())
            }
        };
        shown.push(NamedValue { name, content: Some(content) });
    }
    Ok(shown)
}

fn same(kind: Kind, one: &str, other: &str) -> bool {
    if kind == Kind::Header { one.eq_ignore_ascii_case(other) } else { one == other }
}

fn check_name(field: &str, kind: Kind, name: &str) -> Result<(), Error> {
    let says = |text: String| Err(Error::invalid_field(field, text));
    let fits = |first: fn(char) -> bool, rest: fn(char) -> bool| {
        (1..=128).contains(&name.len()) && name.starts_with(first) && name.chars().all(rest)
    };
    match kind {
        Kind::Header => {
            let token: fn(char) -> bool = |c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if !fits(token, token) {
                return says("contains an invalid header name".to_owned());
            }
            if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return says(format!("must not set {name}, which is a connection header"));
            }
        }
        Kind::Variable => {
            if !fits(|c| c.is_ascii_alphabetic() || c == '_', |c| c.is_ascii_alphanumeric() || c == '_') {
                return says("contains an invalid variable name".to_owned());
            }
            if name.starts_with(OWN_VARIABLES) {
                return says(format!("must not set {name}: {OWN_VARIABLES} is reserved for Foundry"));
            }
        }
    }
    Ok(())
}

fn check_value(field: &str, name: &str, kind: Kind, value: &str) -> Result<(), Error> {
    if value.len() > MAX_VALUE {
        return Err(Error::invalid_field(field, format!("has a value for {name} that is larger than 8 KiB")));
    }
    let bad = |c: char| match kind {
        Kind::Header => !(c == '\t' || (' '..='~').contains(&c)),
        Kind::Variable => c == '\0',
    };
    if value.contains(bad) {
        return Err(Error::invalid_field(
            field,
            format!("has a value for {name} with characters that are not allowed"),
        ));
    }
    Ok(())
}

/// A list with its secrets put back in, for the one place that uses them.
pub fn exposed(prefix: &str, list: &[NamedValue], secrets: &Secrets) -> Vec<(String, Secret)> {
    let value = |entry: &NamedValue| match &entry.content {
        Some(Content::Value(value)) => Secret::new(value.as_str()),
        Some(Content::Secret(_)) => {
            secrets.get(&format!("{prefix}{}", entry.name)).cloned().unwrap_or_else(|| Secret::new(""))
        }
        None => Secret::new(""),
    };
    list.iter().map(|entry| (entry.name.clone(), value(entry))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(name: &str, value: &str) -> NamedValue {
        NamedValue { name: name.into(), content: Some(Content::Value(value.into())) }
    }

    fn secret(name: &str, value: &str) -> NamedValue {
        NamedValue { name: name.into(), content: Some(Content::Secret(SecretText { value: value.into() })) }
    }

    fn take_headers(list: Vec<NamedValue>, old: &Secrets) -> Result<(Vec<NamedValue>, Secrets), Error> {
        let mut secrets = Secrets::default();
        let shown = take("headers", "headers/", Kind::Header, list, old, &mut secrets)?;
        Ok((shown, secrets))
    }

    #[test]
    fn secrets_leave_the_list_and_come_back_only_where_they_are_used() {
        let list = vec![plain("x-team", "blue"), secret("x-key", "canary")];
        let (shown, secrets) = take_headers(list, &Secrets::default()).unwrap();
        let printed = format!("{shown:?} {secrets:?}");
        assert!(printed.contains("blue") && !printed.contains("canary"), "{printed}");
        let sealed = Secrets::from_secret(&secrets.to_secret().unwrap()).unwrap();
        let used = exposed("headers/", &shown, &sealed);
        assert_eq!(used[1], ("x-key".to_owned(), Secret::new("canary")));
    }

    #[test]
    fn an_empty_secret_keeps_the_one_that_is_stored_and_none_is_made_up() {
        let (_, old) = take_headers(vec![secret("x-key", "canary")], &Secrets::default()).unwrap();
        let (_, kept) = take_headers(vec![secret("x-key", "")], &old).unwrap();
        assert_eq!(kept, old);
        assert!(take_headers(vec![secret("x-other", "")], &old).is_err());
    }

    #[test]
    fn names_and_values_that_could_break_out_are_refused_without_repeating_them() {
        let bad = [
            plain("", "v"),
            plain("a b", "v"),
            plain("Host", "v"),
            plain("x", "a\r\nb: canary"),
            secret("x", "canary\n"),
            secret("x", &"canary".repeat(2_000)),
        ];
        for entry in bad {
            let error = take_headers(vec![entry], &Secrets::default()).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        assert!(take_headers(vec![plain("X-A", "1"), plain("x-a", "2")], &Secrets::default()).is_err());
        for name in ["1A", "A-B", "FOUNDRY_X", "A=B"] {
            let mut secrets = Secrets::default();
            let list = vec![plain(name, "v")];
            assert!(
                take("environment", "e/", Kind::Variable, list, &Secrets::default(), &mut secrets).is_err()
            );
        }
    }
}
