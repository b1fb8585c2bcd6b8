//! Parsing of paths.

use http::Method;

use crate::api::Api;

/// The kind of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Generate an answer. Model, streaming and events are `Some` where the path contains them (Gemini).
    Generate {
        api: Api,
        path: Option<InPath>,
    },
    /// Count the tokens of a prompt.
    CountTokens {
        api: Api,
        model: Option<String>,
    },
    /// The list of models, or one of them by name, in the form of OpenAI and Anthropic.
    Models {
        name: Option<String>,
    },
    /// The same in Gemini's form.
    GeminiModels {
        name: Option<String>,
    },
    Unknown,
}

/// The parts of Gemini's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InPath {
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Whether the stream consists of server-sent events.
    pub(crate) events: bool,
}

impl Route {
    /// Parses a path. Anything may come before the version except a second version: a base URL with one `/v1` too many
    /// fails, as with real providers.
    pub(crate) fn read(method: &Method, path: &str, query: Option<&str>) -> Self {
        let segments: Vec<&str> = path.split('/').collect();
        let Some(version) =
            segments.iter().position(|segment| matches!(*segment, "v1" | "v1beta" | "v1alpha"))
        else {
            return Self::Unknown;
        };
        let (is_v1, rest) = (segments[version] == "v1", &segments[version + 1..]);
        let generate = |api| Self::Generate { api, path: None };
        match (method, rest) {
            (&Method::POST, ["chat", "completions"]) if is_v1 => generate(Api::Chat),
            (&Method::POST, ["responses"]) if is_v1 => generate(Api::Responses),
            (&Method::POST, ["messages"]) if is_v1 => generate(Api::Messages),
            (&Method::POST, ["messages", "count_tokens"]) if is_v1 => {
                Self::CountTokens { api: Api::Messages, model: None }
            }
            (&Method::POST, ["models", call]) => Self::gemini(call, query),
            (&Method::GET, ["models"]) if is_v1 => Self::Models { name: None },
            (&Method::GET, ["models", name]) if is_v1 => Self::Models { name: Some((*name).to_owned()) },
            (&Method::GET, ["models"]) => Self::GeminiModels { name: None },
            (&Method::GET, ["models", name]) => Self::GeminiModels { name: Some((*name).to_owned()) },
            _ => Self::Unknown,
        }
    }

    fn gemini(call: &str, query: Option<&str>) -> Self {
        let Some((model, method)) = call.split_once(':') else { return Self::Unknown };
        let model = model.to_owned();
        let events = query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
        let generate = |stream| Self::Generate {
            api: Api::Gemini,
            path: Some(InPath { model: model.clone(), stream, events }),
        };
        match method {
            "generateContent" => generate(false),
            "streamGenerateContent" => generate(true),
            "countTokens" => Self::CountTokens { api: Api::Gemini, model: Some(model) },
            _ => Self::Unknown,
        }
    }

    /// The API whose error format applies, by path and by whether Anthropic's version header was sent.
    pub(crate) fn api(&self, anthropic: bool) -> Api {
        match self {
            Self::Generate { api, .. } | Self::CountTokens { api, .. } => *api,
            Self::GeminiModels { .. } => Api::Gemini,
            Self::Models { .. } | Self::Unknown if anthropic => Api::Messages,
            Self::Models { .. } | Self::Unknown => Api::Chat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(path: &str) -> Route {
        Route::read(&Method::POST, path, None)
    }

    #[test]
    fn any_prefix_is_taken_but_no_second_version() {
        for prefix in ["", "/model/openai", "/a/b/c"] {
            let chat = post(&format!("{prefix}/v1/chat/completions"));
            assert_eq!(chat, Route::Generate { api: Api::Chat, path: None });
        }
        assert_eq!(post("/v1/v1/chat/completions"), Route::Unknown);
        assert_eq!(post("/chat/completions"), Route::Unknown);
        assert_eq!(Route::read(&Method::GET, "/v1/responses", None), Route::Unknown);
    }

    #[test]
    fn gemini_tells_model_and_stream_in_its_path() {
        let path = "/x/v1beta/models/gemini-9:streamGenerateContent";
        let route = Route::read(&Method::POST, path, Some("key=k&alt=sse"));
        let inside = InPath { model: "gemini-9".to_owned(), stream: true, events: true };
        assert_eq!(route, Route::Generate { api: Api::Gemini, path: Some(inside) });
        assert_eq!(post("/v1beta/models/g:embedContent"), Route::Unknown);
    }
}
