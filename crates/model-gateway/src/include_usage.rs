//! Chat completions report usage in a stream only on request: requests it, and removes it from the answer.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::{memchr, memmem};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::reserve::WRITTEN;

/// The fields that the gateway reads of a request.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked<'a> {
    #[serde(borrow, default)]
    pub(crate) model: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    max_output_tokens: Option<&'a RawValue>,
    /// The number of requested answers.
    #[serde(borrow, default)]
    n: Option<&'a RawValue>,
    #[serde(borrow, default)]
    background: Option<&'a RawValue>,
}

/// Reads a `null` as a present value.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl<'a> Asked<'a> {
    /// Parses a body. Strict: a field that the provider reads differently would be counted or allowed wrongly, so a
    /// duplicate key is an error.
    pub(crate) fn of(body: &'a [u8]) -> serde_json::Result<Self> {
        if body.trim_ascii_start().first() != Some(&b'{') {
            // An array would be taken for the fields in their order.
            return Err(serde::de::Error::custom("it is not a JSON object"));
        }
        serde_json::from_slice(body)
    }

    /// The most tokens that may be generated. Of several bounds, the provider may apply any.
    pub(crate) fn most(&self) -> u64 {
        written([self.max_tokens, self.max_completion_tokens, self.max_output_tokens], self.n)
    }

    /// Whether the answer is to be fetched later, which the gateway does not support.
    pub(crate) fn is_in_background(&self) -> bool {
        self.background.is_some_and(|value| !matches!(value.get(), "false" | "null"))
    }

    /// The body with usage requested; `None` when it already requests it, or asks for no stream. All other bytes are
    /// kept.
    pub(crate) fn including_usage(&self, body: &[u8]) -> Option<Bytes> {
        const ASK: &[u8] = br#""include_usage":true"#;
        if self.stream != Some(true) {
            return None;
        }
        let Some(options) = self.stream_options else {
            let open = body.iter().position(|b| *b == b'{')? + 1;
            return Some(inserted(body, open, open, &[br#""stream_options":{"#, ASK, b"},"]));
        };
        let start = options.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
        let end = start + options.get().len();
        match serde_json::from_str::<serde_json::Value>(options.get()).ok()? {
            serde_json::Value::Null => Some(inserted(body, start, end, &[b"{", ASK, b"}"])),
            serde_json::Value::Object(mut fields) => match fields.get("include_usage") {
                Some(serde_json::Value::Bool(true)) => None,
                Some(_) => {
                    fields.insert("include_usage".to_owned(), true.into());
                    let changed = serde_json::Value::Object(fields).to_string();
                    Some(inserted(body, start, end, &[changed.as_bytes()]))
                }
                None if fields.is_empty() => Some(inserted(body, start, end, &[b"{", ASK, b"}"])),
                None => Some(inserted(body, start + 1, start + 1, &[ASK, b","])),
            },
            _ => None,
        }
    }
}

/// The most tokens that a request of Gemini's API asks for.
pub(crate) fn most_of_gemini(body: &[u8]) -> u64 {
    #[derive(Default, Deserialize)]
    struct Generating<'a> {
        #[serde(borrow, default, rename = "generationConfig", alias = "generation_config")]
        config: Config<'a>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Config<'a> {
        #[serde(borrow, rename = "maxOutputTokens", alias = "max_output_tokens")]
        most: Option<&'a RawValue>,
        #[serde(borrow, rename = "candidateCount", alias = "candidate_count")]
        answers: Option<&'a RawValue>,
    }
    // A body that cannot be parsed here is refused by the provider.
    let asked = serde_json::from_slice::<Generating<'_>>(body).unwrap_or_default();
    written([asked.config.most], asked.config.answers)
}

/// The expected tokens for the bounds of a request: at least a little, and no more than a model generates.
fn written<const N: usize>(bounds: [Option<&RawValue>; N], answers: Option<&RawValue>) -> u64 {
    /// Whatever the request, an answer costs something.
    const MIN_ANSWER: u64 = 256;
    /// More than models generate in one answer: a larger bound must not block all other calls.
    const MAX_ANSWER: u64 = 200_000;
    let number = |value: &RawValue| {
        let number = value.get().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded on both sides
        Some(number.min(1e9) as u64)
    };
    let each = bounds.into_iter().flatten().filter_map(number).max().unwrap_or(WRITTEN);
    let answers = answers.and_then(number).unwrap_or(1).max(1);
    each.saturating_mul(answers).clamp(MIN_ANSWER, MAX_ANSWER)
}

/// The body with `parts` in place of the bytes from `start` to `end`.
fn inserted(body: &[u8], start: usize, end: usize, parts: &[&[u8]]) -> Bytes {
    let mut changed = BytesMut::with_capacity(body.len() + parts.iter().map(|p| p.len()).sum::<usize>());
    changed.extend_from_slice(&body[..start]);
    parts.iter().for_each(|part| changed.extend_from_slice(part));
    changed.extend_from_slice(&body[end..]);
    changed.freeze()
}

/// An event longer than this is not one about usage alone.
const LONGEST: usize = 16 * 1024;

/// Removes the chunk with the usage from a stream. All other bytes pass as they came; only an incomplete event is held,
/// which no client could use yet.
#[derive(Debug)]
pub(crate) struct WithoutUsage {
    held: BytesMut,
    /// How much of `held` has been scanned.
    scanned: usize,
    at_line_start: bool,
    /// Inside an event that is too long to be held.
    passing: bool,
}

impl WithoutUsage {
    pub(crate) fn new() -> Self {
        Self { held: BytesMut::new(), scanned: 0, at_line_start: true, passing: false }
    }

    /// The part of this piece that may pass; may be empty.
    pub(crate) fn pass(&mut self, piece: Bytes) -> Bytes {
        let data = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        let (mut kept, mut start): (Vec<(usize, usize)>, usize) = (Vec::new(), 0);
        while let Some(end) = self.next_end(&data) {
            let event = &data[start..end];
            if self.passing || !is_usage(event) {
                match kept.last_mut() {
                    Some(last) if last.1 == start => last.1 = end,
                    _ => kept.push((start, end)),
                }
            }
            self.passing = false;
            start = end;
        }
        if self.passing || data.len() - start > LONGEST {
            self.passing = true;
            match kept.last_mut() {
                Some(last) if last.1 == start => last.1 = data.len(),
                _ => kept.push((start, data.len())),
            }
        } else {
            self.held.extend_from_slice(&data[start..]);
        }
        self.scanned = self.held.len();
        match kept.as_slice() {
            [] => Bytes::new(),
            [(from, to)] => data.slice(*from..*to),
            many => many
                .iter()
                .fold(BytesMut::new(), |mut all, (from, to)| {
                    all.extend_from_slice(&data[*from..*to]);
                    all
                })
                .freeze(),
        }
    }

    /// What was held when the stream ended.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// Where the next event ends: behind its empty line.
    fn next_end(&mut self, data: &[u8]) -> Option<usize> {
        while let Some(found) = data.get(self.scanned..).and_then(|rest| memchr(b'\n', rest)) {
            let line = &data[self.scanned..self.scanned + found];
            let empty = self.at_line_start && (line.is_empty() || line == b"\r");
            self.scanned += found + 1;
            self.at_line_start = true;
            if empty {
                return Some(self.scanned);
            }
        }
        let rest = &data[self.scanned.min(data.len())..];
        self.at_line_start &= rest.is_empty() || rest == b"\r";
        self.scanned = data.len();
        None
    }
}

/// Whether an event contains the usage and nothing else.
fn is_usage(event: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Chunk {
        choices: Vec<serde::de::IgnoredAny>,
        usage: Option<serde::de::IgnoredAny>,
    }
    if event.len() > LONGEST || memmem::find(event, br#""usage""#).is_none() {
        return false;
    }
    let mut lines = event.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(b"data:"));
    let (Some(data), None) = (lines.next(), lines.next()) else { return false };
    let chunk = serde_json::from_slice::<Chunk>(data.trim_ascii());
    chunk.is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(body: &str) -> Option<String> {
        let asked = Asked::of(body.as_bytes()).unwrap();
        asked.including_usage(body.as_bytes()).map(|b| String::from_utf8(b.to_vec()).unwrap())
    }

    #[test]
    fn asks_for_usage_and_leaves_every_other_byte() {
        let ask = r#""include_usage":true"#;
        for (body, expected) in [
            (
                r#"{"model":"m","stream":true}"#,
                Some(format!(r#"{{"stream_options":{{{ask}}},"model":"m","stream":true}}"#)),
            ),
            (
                r#" { "stream" : true, "stream_options": {"x": 1.0e2 }, "n":1}"#,
                Some(format!(r#" {{ "stream" : true, "stream_options": {{{ask},"x": 1.0e2 }}, "n":1}}"#)),
            ),
            (
                r#"{"stream":true,"stream_options":{}}"#,
                Some(format!(r#"{{"stream":true,"stream_options":{{{ask}}}}}"#)),
            ),
            (
                r#"{"stream":true,"stream_options":null}"#,
                Some(format!(r#"{{"stream":true,"stream_options":{{{ask}}}}}"#)),
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":false}}"#,
                Some(format!(r#"{{"stream":true,"stream_options":{{{ask}}}}}"#)),
            ),
            (r#"{"stream":true,"stream_options":{"include_usage":true}}"#, None),
            (r#"{"stream":false}"#, None),
            (r#"{"model":"m"}"#, None),
        ] {
            assert_eq!(asking(body), expected, "{body}");
        }
    }

    #[test]
    fn expects_the_largest_of_the_bounds_for_each_answer_within_reason() {
        for (body, expected) in [
            ("{}", 8_192),
            (r#"{"max_tokens":4000}"#, 4_000),
            (r#"{"max_tokens":0,"max_completion_tokens":64000}"#, 64_000),
            (r#"{"max_tokens":500,"n":20}"#, 10_000),
            (r#"{"n":3}"#, 24_576),
            (r#"{"max_output_tokens":1e5}"#, 100_000),
            (r#"{"max_output_tokens":1000000000000000}"#, 200_000),
            (r#"{"max_output_tokens":1e400,"n":1e300}"#, 200_000),
            (r#"{"max_tokens":0,"n":0}"#, 256),
            (r#"{"max_tokens":-5,"n":null}"#, 8_192),
            (r#"{"max_tokens":"many"}"#, 8_192),
        ] {
            assert_eq!(Asked::of(body.as_bytes()).unwrap().most(), expected, "{body}");
        }
        for (body, expected) in [
            (r#"{"contents":[]}"#, 8_192),
            (r#"{"contents":[],"generationConfig":{"maxOutputTokens":65536}}"#, 65_536),
            (r#"{"generation_config":{"max_output_tokens":3e3,"candidate_count":2}}"#, 6_000),
            ("no JSON", 8_192),
        ] {
            assert_eq!(most_of_gemini(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn refuses_a_body_that_two_readers_could_understand_differently() {
        for bad in [
            r#"{"model":"a","model":"b"}"#,
            r#"{"stream":true,"stream":false}"#,
            "no JSON",
            "[]",
            r#"{"model":1}"#,
        ] {
            assert!(Asked::of(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\"\"}}],\"usage\":null}\n\n\
        : a comment\n\ndata: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\r\n\r\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\nrest";

    #[test]
    fn takes_the_usage_out_and_leaves_every_other_byte_however_the_stream_is_cut() {
        let expected = STREAM.replace("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", "");
        for size in 1..STREAM.len() {
            let (mut filter, mut got) = (WithoutUsage::new(), Vec::new());
            for piece in STREAM.as_bytes().chunks(size) {
                got.extend_from_slice(&filter.pass(Bytes::copy_from_slice(piece)));
            }
            got.extend_from_slice(&filter.finish());
            assert_eq!(String::from_utf8(got).unwrap(), expected, "pieces of {size}");
        }
    }

    #[test]
    fn holds_no_event_that_is_long_and_finds_its_end_again() {
        let mut filter = WithoutUsage::new();
        let long = format!("data: {}", "x".repeat(2 * LONGEST));
        assert_eq!(filter.pass(Bytes::from(long.clone())).len(), long.len());
        assert_eq!(filter.pass(Bytes::from_static(b"y\n")).as_ref(), b"y\n");
        assert_eq!(filter.pass(Bytes::from_static(b"\n")).as_ref(), b"\n");
        let usage = "data: {\"choices\":[],\"usage\":{}}\n\n";
        assert!(filter.pass(Bytes::from(usage)).is_empty());
    }
}
