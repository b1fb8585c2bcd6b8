//! A model provider: where models are served, with which headers and which credential.

use foundry_core::{Error, ModelProviderId, OrganizationId, Timestamp};
use foundry_proto::common::v1::SecretText;
use foundry_proto::provisioner::v1 as proto;
use foundry_proto::provisioner::v1::credential::Secret as Given;
use foundry_proto::provisioner::v1::{
    CredentialKind, CredentialStatus, ModelPrice, ModelProviderKind, ModelProviderSettings,
};
use foundry_secrets::Secret;
use url::Url;

use super::named::{self, Kind, Secrets};
use super::profile_name::{check_model, check_name};

/// Where a row's [`Secrets`] hold the credential.
pub const CREDENTIAL: &str = "credential";
/// Where a row's [`Secrets`] hold the secret headers: the prefix of their places.
pub const HEADERS: &str = "headers/";
/// Prefix of the names of model providers that come from the environment.
pub const ENVIRONMENT_PREFIX: &str = "env-";

/// Most names in the list of models, and most prices.
const MAX_MODELS: usize = 100;
/// Longest URL in bytes.
const MAX_URL: usize = 2_048;
/// None of the characters of a credential shorter than this are shown.
const SHOWN_FROM: usize = 20;

/// A model provider. The secrets are not in it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelProvider {
    pub model_provider_id: ModelProviderId,
    /// The owner; none when it comes from the environment.
    pub organization_id: Option<OrganizationId>,
    /// What people see, revision included.
    pub view: proto::ModelProvider,
    /// Its secrets as they are stored.
    pub sealed: Option<bytes::Bytes>,
}

impl ModelProvider {
    /// Whether it comes from the environment, and cannot be changed.
    pub fn is_of_environment(&self) -> bool {
        self.organization_id.is_none()
    }

    /// Whether this model may be used.
    pub fn offers(&self, model: &str) -> bool {
        self.view.models.is_empty() || self.view.models.iter().any(|m| m == model)
    }
}

/// A field of the settings that an update names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Name,
    BaseUrl,
    Headers,
    Credential,
    Models,
    Prices,
}

impl Field {
    pub const ALL: [Self; 6] =
        [Self::Name, Self::BaseUrl, Self::Headers, Self::Credential, Self::Models, Self::Prices];

    /// The field's path in a field mask.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::BaseUrl => "base_url",
            Self::Headers => "headers",
            Self::Credential => "credential",
            Self::Models => "models",
            Self::Prices => "prices",
        }
    }
}

/// Applies these fields of the settings to a view and its secrets: all of them, or none when one is refused.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field; no secret is in it.
pub fn apply(
    view: &mut proto::ModelProvider,
    secrets: &mut Secrets,
    settings: ModelProviderSettings,
    fields: &[Field],
    now: Timestamp,
) -> Result<(), Error> {
    let (mut new, mut old) = (view.clone(), secrets.clone());
    let mut kept = secrets.clone();
    let has = |field| fields.contains(&field);
    if has(Field::Name) {
        check_name("settings.name", &settings.name)?;
        if settings.name.starts_with(ENVIRONMENT_PREFIX) {
            let text = format!(
                "must not start with {ENVIRONMENT_PREFIX}, which is reserved for providers from the \
                 environment"
            );
            return Err(Error::invalid_field("settings.name", text));
        }
        new.name = settings.name;
    }
    if has(Field::BaseUrl) {
        new.base_url = base_url(new.kind(), &settings.base_url)?;
        if is_elsewhere(&view.base_url, &new.base_url) {
            // A person who may change the URL need not know the secrets, and must not collect them on a server of
            // their own.
            let again = |field: &str, what: &str| {
                let text = format!(
                    "must be given again: the URL points to another server, which must not receive the \
                     stored {what}"
                );
                Err(Error::invalid_field(field, text))
            };
            if !has(Field::Credential) && old.get(CREDENTIAL).is_some() {
                return again("settings.credential", "credential");
            }
            if !has(Field::Headers) && old.has(HEADERS) {
                return again("settings.headers", "secret headers");
            }
            old = Secrets::default();
        }
    }
    if has(Field::Headers) {
        kept.forget(HEADERS);
        new.headers =
            named::take("settings.headers", HEADERS, Kind::Header, settings.headers, &old, &mut kept)?;
    }
    if has(Field::Credential) {
        kept.forget(CREDENTIAL);
        new.credential = Some(match settings.credential.and_then(|c| c.secret) {
            None => CredentialStatus::default(),
            Some(given) => credential(given, now, &mut kept)?,
        });
    }
    if has(Field::Models) {
        new.models = models(settings.models)?;
    }
    if has(Field::Prices) {
        new.prices = prices(settings.prices)?;
    }
    new.update_time = Some(now.to_proto());
    (*view, *secrets) = (new, kept);
    Ok(())
}

/// Whether the new URL is on another server than the old one (scheme, host or port differ). False without an old one.
pub(super) fn is_elsewhere(old: &str, new: &str) -> bool {
    let origin = |text: &str| Url::parse(text).map(|url| url.origin()).ok();
    !old.is_empty() && origin(old) != origin(new)
}

/// The kind with this number, if it is supported.
///
/// # Errors
/// `INVALID_ARGUMENT` for any other, with what to use instead.
pub fn kind(number: i32) -> Result<ModelProviderKind, Error> {
    let refused = |text: &str| Err(Error::invalid_field("settings.kind", text));
    match ModelProviderKind::try_from(number) {
        Ok(ModelProviderKind::Bedrock) => refused(
            "Bedrock is not supported: its calls are signed with AWS keys. Put a gateway in front of it that speaks the \
             Anthropic or OpenAI API, and add that as anthropic or openai-compatible",
        ),
        Ok(ModelProviderKind::Vertex) => refused(
            "Vertex AI is not supported: its calls need Google Cloud sign-in. Use the Gemini API with a key, or a gateway \
             that speaks the Anthropic or OpenAI API",
        ),
        Ok(ModelProviderKind::Unspecified) => {
            refused("must be anthropic, openai, openai-compatible or gemini")
        }
        Ok(kind) => Ok(kind),
        Err(_) => refused("is unknown; use anthropic, openai, openai-compatible or gemini"),
    }
}

/// The public URL at which a kind is served; empty for a kind that many serve.
pub const fn default_url(kind: ModelProviderKind) -> &'static str {
    match kind {
        ModelProviderKind::Anthropic => "https://api.anthropic.com",
        ModelProviderKind::Openai => "https://api.openai.com/v1",
        ModelProviderKind::Gemini => "https://generativelanguage.googleapis.com",
        _ => "",
    }
}

/// A base URL, or the default of the kind for an empty one; without a slash at its end.
///
/// # Errors
/// `INVALID_ARGUMENT`; a URL with credentials is not repeated.
pub fn base_url(kind: ModelProviderKind, text: &str) -> Result<String, Error> {
    let text = if text.is_empty() { default_url(kind) } else { text };
    if text.is_empty() {
        return Err(Error::invalid_field("settings.base_url", "is required for openai-compatible"));
    }
    Ok(server_url("settings.base_url", text)?.trim_end_matches('/').to_owned())
}

/// An `http` or `https` URL without credentials, query and fragment.
///
/// # Errors
/// `INVALID_ARGUMENT` naming `field`.
pub fn server_url(field: &str, text: &str) -> Result<String, Error> {
    let says = |text: &str| Err(Error::invalid_field(field, text));
    let Ok(url) = Url::parse(text) else { return says("is not a valid URL, for example https://host/path") };
    if text.len() > MAX_URL {
        return says("is longer than 2048 bytes");
    }
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return says("must start with http:// or https:// and include a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return says("must not contain a user name or password; use the credential or a secret header");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return says("must not have a query or a fragment");
    }
    Ok(url.into())
}

/// Stores a credential among the secrets, and returns what may be shown of it.
///
/// # Errors
/// `INVALID_ARGUMENT` without the credential.
pub fn credential(given: Given, now: Timestamp, secrets: &mut Secrets) -> Result<CredentialStatus, Error> {
    let (kind, SecretText { value }) = match given {
        Given::Key(key) => (CredentialKind::Key, key),
        Given::Bearer(bearer) => (CredentialKind::Bearer, bearer),
    };
    let value = value.trim();
    if value.is_empty() || value.len() > named::MAX_VALUE || !value.chars().all(|c| c.is_ascii_graphic()) {
        let text = "must be 1 byte to 8 KiB of visible ASCII without spaces";
        return Err(Error::invalid_field("settings.credential", text));
    }
    secrets.put(CREDENTIAL, Secret::new(value));
    let shown = if value.len() < SHOWN_FROM { "" } else { &value[value.len() - 4..] };
    Ok(CredentialStatus {
        kind: kind.into(),
        has_key: true,
        last_four: shown.to_owned(),
        set_time: Some(now.to_proto()),
    })
}

fn models(models: Vec<String>) -> Result<Vec<String>, Error> {
    if models.len() > MAX_MODELS {
        return Err(Error::invalid_field("settings.models", "has more than 100 entries"));
    }
    for (i, model) in models.iter().enumerate() {
        check_model("settings.models", model)?;
        if models[..i].contains(model) {
            return Err(Error::invalid_field("settings.models", format!("contains {model} twice")));
        }
    }
    Ok(models)
}

fn prices(prices: Vec<ModelPrice>) -> Result<Vec<ModelPrice>, Error> {
    if prices.len() > MAX_MODELS {
        return Err(Error::invalid_field("settings.prices", "has more than 100 entries"));
    }
    for (i, price) in prices.iter().enumerate() {
        check_model("settings.prices", &price.model)?;
        if prices[..i].iter().any(|other| other.model == price.model) {
            return Err(Error::invalid_field("settings.prices", format!("contains {} twice", price.model)));
        }
        if [price.input_micros, price.output_micros, price.cached_input_micros].iter().any(|p| *p < 0) {
            return Err(Error::invalid_field("settings.prices", "must not be negative"));
        }
    }
    Ok(prices)
}

#[cfg(test)]
mod tests {
    use foundry_proto::common::v1::NamedValue;
    use foundry_proto::common::v1::named_value::Content;
    use foundry_proto::provisioner::v1::Credential;

    use super::*;

    fn key(value: &str) -> Given {
        Given::Key(SecretText { value: value.to_owned() })
    }

    #[test]
    fn shows_at_most_the_last_four_characters_of_a_long_credential() {
        for (value, shown) in [("short-key", ""), ("sk-ant-0123456789abcdef-wxyz", "wxyz")] {
            let mut secrets = Secrets::default();
            let status = credential(key(value), Timestamp::default(), &mut secrets).unwrap();
            assert_eq!((status.last_four.as_str(), status.has_key), (shown, true));
            assert_eq!(secrets.get(CREDENTIAL), Some(&Secret::new(value)));
        }
        for bad in ["", " ", "a b", "a\nb", "schlüssel", &"x".repeat(8193)] {
            let refused = credential(key(bad), Timestamp::default(), &mut Secrets::default());
            assert!(refused.is_err(), "{bad}");
        }
    }

    #[test]
    fn takes_plain_urls_and_the_default_of_the_kind() {
        let anthropic = ModelProviderKind::Anthropic;
        assert_eq!(base_url(anthropic, "").unwrap(), "https://api.anthropic.com");
        assert_eq!(base_url(anthropic, "http://[::1]:8080/v1/").unwrap(), "http://[::1]:8080/v1");
        for bad in [
            "api.anthropic.com",
            "ftp://x",
            "file:///etc/passwd",
            "https://user:canary@x",
            "https://canary@x",
            "https://x/?key=canary",
            "https://x/#canary",
            "javascript:canary",
        ] {
            let error = base_url(anthropic, bad).unwrap_err();
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        assert!(base_url(ModelProviderKind::OpenaiCompatible, "").is_err());
    }

    #[test]
    fn bedrock_and_vertex_are_refused_in_words() {
        for (number, word) in [(5, "Bedrock"), (6, "Vertex"), (0, "must be"), (77, "unknown")] {
            assert!(kind(number).unwrap_err().message().contains(word));
        }
        assert_eq!(kind(4).unwrap(), ModelProviderKind::Gemini);
    }

    #[test]
    fn an_update_changes_the_named_fields_and_none_when_one_is_wrong() {
        let (mut view, mut secrets) = (proto::ModelProvider::default(), Secrets::default());
        view.set_kind(ModelProviderKind::Openai);
        let settings = ModelProviderSettings {
            name: "work".to_owned(),
            credential: Some(Credential { secret: Some(key("canary")) }),
            models: vec!["gpt".to_owned()],
            ..ModelProviderSettings::default()
        };
        apply(&mut view, &mut secrets, settings.clone(), &Field::ALL, Timestamp::default()).unwrap();
        let (before, kept) = (view.clone(), secrets.clone());
        let wrong = ModelProviderSettings { name: "env-x".to_owned(), models: Vec::new(), ..settings };
        let fields = [Field::Models, Field::Name];
        assert!(apply(&mut view, &mut secrets, wrong, &fields, Timestamp::default()).is_err());
        assert_eq!((&view, &secrets), (&before, &kept));
        let none = ModelProviderSettings::default();
        apply(&mut view, &mut secrets, none.clone(), &[Field::Models], Timestamp::default()).unwrap();
        assert!(view.models.is_empty() && view.name == "work" && secrets == kept);
        apply(&mut view, &mut secrets, none, &[Field::Credential], Timestamp::default()).unwrap();
        assert!(!view.credential.unwrap().has_key && secrets.is_empty());
    }

    #[test]
    fn an_address_of_another_server_gets_no_secret_of_before() {
        let named = |name: &str, content| NamedValue { name: name.to_owned(), content: Some(content) };
        let secret = |value: &str| Content::Secret(SecretText { value: value.to_owned() });
        let settings = ModelProviderSettings {
            name: "work".to_owned(),
            base_url: "https://llm.corp/v1".to_owned(),
            headers: vec![
                named("x-team", Content::Value("blue".to_owned())),
                named("x-key", secret("canary")),
            ],
            credential: Some(Credential { secret: Some(key("canary")) }),
            ..ModelProviderSettings::default()
        };
        let (mut view, mut secrets) = (proto::ModelProvider::default(), Secrets::default());
        view.set_kind(ModelProviderKind::Openai);
        apply(&mut view, &mut secrets, settings.clone(), &Field::ALL, Timestamp::default()).unwrap();
        let change = |url: &str, fields: &[Field], header: &str| {
            let (mut view, mut secrets) = (view.clone(), secrets.clone());
            let mut new = settings.clone();
            new.base_url = url.to_owned();
            new.headers = vec![named("x-key", secret(header))];
            apply(&mut view, &mut secrets, new, fields, Timestamp::default()).map(|()| view.base_url)
        };
        let (credential, headers) = (Field::Credential, Field::Headers);
        assert!(change("https://llm.corp/v2", &[Field::BaseUrl], "").is_ok(), "it is the same server");
        for url in ["https://evil.example/v1", "http://llm.corp/v1", "https://llm.corp:444/v1", ""] {
            for (fields, header, wanted) in [
                (vec![Field::BaseUrl], "", "settings.credential"),
                (vec![Field::BaseUrl, headers], "new", "settings.credential"),
                (vec![Field::BaseUrl, credential], "", "settings.headers"),
                (vec![Field::BaseUrl, credential, headers], "", "settings.headers"),
            ] {
                let error = change(url, &fields, header).unwrap_err();
                assert!(format!("{error:?}").contains(wanted), "{url} {fields:?}: {error:?}");
            }
            assert!(change(url, &[Field::BaseUrl, credential, headers], "new").is_ok(), "{url}");
        }
    }
}
