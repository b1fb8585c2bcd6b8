//! Usage: fixed for a request, so that tests can rely on the numbers.

use serde_json::{Value, json};

/// Tokens of one answer, as in [`crate::RecordedRequest::usage`] and in the answer itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// All tokens of the prompt: a quarter of the request's bytes, at least 1 and at most 50,000, so that
    /// a picture does not fill the agent's context window.
    pub input: u64,
    /// Those of `input` that were read from a cache: a quarter of them.
    pub cached: u64,
    /// Tokens of the answer: a quarter of its bytes, at least 1.
    pub output: u64,
}

impl Usage {
    pub(crate) fn new(request: usize, answer: u64) -> Self {
        let input = (request as u64 / 4).clamp(1, 50_000);
        Self { input, cached: input / 4, output: (answer / 4).max(1) }
    }

    pub(crate) fn chat(self) -> Value {
        json!({
            "prompt_tokens": self.input, "completion_tokens": self.output, "total_tokens": self.input + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }

    pub(crate) fn responses(self) -> Value {
        json!({
            "input_tokens": self.input, "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.output, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.input + self.output,
        })
    }

    /// Anthropic does not include cached tokens in `input_tokens`.
    pub(crate) fn messages(self) -> Value {
        json!({
            "input_tokens": self.input - self.cached, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached, "output_tokens": self.output, "service_tier": "standard",
        })
    }

    pub(crate) fn gemini(self) -> Value {
        json!({
            "promptTokenCount": self.input, "cachedContentTokenCount": self.cached,
            "candidatesTokenCount": self.output, "totalTokenCount": self.input + self.output,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_tells_the_same_tokens() {
        let usage = Usage::new(4_000, 80);
        assert_eq!(usage, Usage { input: 1_000, cached: 250, output: 20 });
        assert_eq!(usage.chat()["prompt_tokens"], 1_000);
        assert_eq!(usage.responses()["total_tokens"], 1_020);
        assert_eq!(usage.messages()["input_tokens"], 750);
        assert_eq!(usage.messages()["cache_read_input_tokens"], 250);
        assert_eq!(usage.gemini()["candidatesTokenCount"], 20);
        assert_eq!(Usage::new(90_000_000, 0), Usage { input: 50_000, cached: 12_500, output: 1 });
    }
}
