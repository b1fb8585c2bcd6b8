//! The paths that are served; all others are refused.

use http::Method;

use crate::access::Kind;
use crate::shape::Family;

/// The API of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// Anthropic's Messages API.
    Messages,
    /// OpenAI's Chat Completions API.
    Chat,
    /// OpenAI's Responses API.
    Responses,
    /// Gemini's `generateContent` and `streamGenerateContent`.
    Generate,
    /// Counting tokens beforehand: free, and missing in many gateways.
    Count,
    /// The list of models, or one of them.
    Models,
}

impl Api {
    /// Whether a model runs: only such calls are counted, limited and turned into conditions.
    pub(crate) fn generates(self) -> bool {
        !matches!(self, Self::Count | Self::Models)
    }
}

/// A served path, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) api: Api,
    /// The API family; `None` for the list of models, which several have at the same path.
    pub(crate) family: Option<Family>,
    /// What follows the version in the path.
    pub(crate) rest: String,
    /// Gemini's version, where the path contains one.
    pub(crate) version: Option<&'static str>,
    /// The model, where the path contains it.
    pub(crate) model: Option<String>,
}

impl Route {
    /// The route of a path, without its query; `None` when it is not served. Nothing is decoded or normalized: a path
    /// that would need it is not served.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Self> {
        let path = path.strip_prefix('/')?;
        let (prefix, path) = match path.split_once('/') {
            Some(("anthropic", rest)) => (Some(Family::Anthropic), rest),
            Some(("openai", rest)) => (Some(Family::OpenAi), rest),
            Some(("gemini", rest)) => (Some(Family::Gemini), rest),
            _ => (None, path),
        };
        let (version, rest) = match path.split_once('/') {
            Some(("v1", rest)) => (Some("v1"), rest),
            Some(("v1beta", rest)) => (Some("v1beta"), rest),
            // Base URLs end with the version or without it, so a prefix may stand alone.
            _ if prefix.is_some() => (None, path),
            _ => return None,
        };
        let mut route = if method == Method::POST {
            Self::posted(rest)?
        } else if method == Method::GET {
            Self::read(rest)?
        } else {
            return None;
        };
        let family = match (route.family, prefix) {
            (Some(own), Some(prefix)) if own != prefix => return None,
            (own, prefix) => own.or(prefix),
        };
        route.family =
            if version == Some("v1beta") && family.is_none() { Some(Family::Gemini) } else { family };
        if version == Some("v1beta") && route.family != Some(Family::Gemini) {
            return None;
        }
        route.version = version;
        Some(route)
    }

    fn posted(rest: &str) -> Option<Self> {
        let (api, family, model) = match rest {
            "messages" => (Api::Messages, Family::Anthropic, None),
            "messages/count_tokens" => (Api::Count, Family::Anthropic, None),
            "chat/completions" => (Api::Chat, Family::OpenAi, None),
            "responses" => (Api::Responses, Family::OpenAi, None),
            _ => {
                let (model, action) = rest.strip_prefix("models/")?.rsplit_once(':')?;
                let api = match action {
                    "generateContent" | "streamGenerateContent" => Api::Generate,
                    "countTokens" => Api::Count,
                    _ => return None,
                };
                (api, Family::Gemini, Some(is_model(model).then(|| model.to_owned())?))
            }
        };
        Some(Self { api, family: Some(family), rest: rest.to_owned(), version: None, model })
    }

    fn read(rest: &str) -> Option<Self> {
        let listed = rest == "models" || rest.strip_prefix("models/").is_some_and(is_model);
        listed.then(|| Self {
            api: Api::Models,
            family: None,
            rest: rest.to_owned(),
            version: None,
            model: None,
        })
    }

    /// The API family at a provider of this kind; `None` when the provider does not have it.
    pub(crate) fn served_by(&self, kind: Kind) -> Option<Family> {
        match (kind, self.family) {
            (Kind::Anthropic, None | Some(Family::Anthropic)) => Some(Family::Anthropic),
            (Kind::OpenAi | Kind::OpenAiCompatible, None | Some(Family::OpenAi)) => Some(Family::OpenAi),
            (Kind::OpenAiCompatible, Some(Family::Anthropic)) => Some(Family::Anthropic),
            (Kind::Gemini, None | Some(Family::Gemini)) => Some(Family::Gemini),
            _ => None,
        }
    }
}

/// Whether this is one path segment without special meaning.
fn is_model(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'@');
    (1..=200).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains("..")
        && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(method: &str, path: &str) -> Option<(Api, Option<Family>)> {
        Route::of(&method.parse().unwrap(), path).map(|r| (r.api, r.family))
    }

    #[test]
    fn serves_the_paths_of_the_list() {
        let (anthropic, openai, gemini) =
            (Some(Family::Anthropic), Some(Family::OpenAi), Some(Family::Gemini));
        for (method, path, expected) in [
            ("POST", "/v1/messages", (Api::Messages, anthropic)),
            ("POST", "/anthropic/v1/messages", (Api::Messages, anthropic)),
            ("POST", "/anthropic/messages", (Api::Messages, anthropic)),
            ("POST", "/v1/messages/count_tokens", (Api::Count, anthropic)),
            ("POST", "/v1/chat/completions", (Api::Chat, openai)),
            ("POST", "/openai/chat/completions", (Api::Chat, openai)),
            ("POST", "/v1/responses", (Api::Responses, openai)),
            ("POST", "/openai/v1/responses", (Api::Responses, openai)),
            ("POST", "/v1beta/models/gemini-2.5-pro:generateContent", (Api::Generate, gemini)),
            ("POST", "/gemini/v1beta/models/gemini-2.5-pro:streamGenerateContent", (Api::Generate, gemini)),
            ("POST", "/gemini/models/g:streamGenerateContent", (Api::Generate, gemini)),
            ("POST", "/v1/models/g:generateContent", (Api::Generate, gemini)),
            ("POST", "/v1beta/models/g:countTokens", (Api::Count, gemini)),
            ("GET", "/v1/models", (Api::Models, None)),
            ("GET", "/v1/models/qwen3-coder:30b", (Api::Models, None)),
            ("GET", "/openai/models", (Api::Models, openai)),
            ("GET", "/v1beta/models", (Api::Models, gemini)),
        ] {
            assert_eq!(api(method, path), Some(expected), "{method} {path}");
        }
    }

    #[test]
    fn refuses_all_others() {
        for (method, path) in [
            ("GET", "/"),
            ("GET", "/v1/messages"),
            ("DELETE", "/v1/models/m"),
            ("HEAD", "/v1/models"),
            ("OPTIONS", "/v1/messages"),
            ("POST", "/messages"),
            ("POST", "/v1/messages/"),
            ("POST", "//v1/messages"),
            ("POST", "/v1//messages"),
            ("POST", "/v1/../v1/messages"),
            ("POST", "/v1/./messages"),
            ("POST", "/v1/messages/batches"),
            ("POST", "/v1/%6dessages"),
            ("POST", "/V1/messages"),
            ("POST", "/v1/files"),
            ("POST", "/v1/embeddings"),
            ("GET", "/v1/responses"),
            ("GET", "/v1/responses/resp_1"),
            ("GET", "/v1/models/"),
            ("GET", "/v1/models/.."),
            ("GET", "/v1/models/a%2fb"),
            ("GET", "/v1/models/a/b"),
            ("GET", "/v1/models/a\\b"),
            ("GET", "/v1/organizations"),
            ("POST", "/v1beta/models/..:generateContent"),
            ("POST", "/v1beta/models/a%2F..%2Fb:generateContent"),
            ("POST", "/v1beta/models/g:batchGenerateContent"),
            ("POST", "/v1beta/messages"),
            ("POST", "/gemini/v1/messages"),
            ("POST", "/openai/v1beta/chat/completions"),
            ("POST", "/openai/openai/v1/chat/completions"),
            ("POST", "v1/messages"),
        ] {
            assert_eq!(api(method, path), None, "{method} {path}");
        }
    }

    #[test]
    fn asks_a_provider_only_for_what_its_kind_has() {
        let route = |path| Route::of(&Method::POST, path).unwrap();
        assert_eq!(route("/v1/messages").served_by(Kind::OpenAiCompatible), Some(Family::Anthropic));
        assert_eq!(route("/v1/messages").served_by(Kind::OpenAi), None);
        assert_eq!(route("/v1/chat/completions").served_by(Kind::Anthropic), None);
        let models = Route::of(&Method::GET, "/v1/models").unwrap();
        assert_eq!(models.served_by(Kind::Gemini), Some(Family::Gemini));
    }
}
