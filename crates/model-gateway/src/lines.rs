//! Lines of a stream, with bounded memory and without copying those that come whole.

use memchr::{memchr, memmem};

/// Up to this size a line or a body is kept whole.
const WHOLE: usize = 1024 * 1024;
/// Of a longer one only the end is kept, which contains the usage.
const TAIL: usize = 64 * 1024;

/// The end of a body, or all of it while it is small.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(&data[data.len().saturating_sub(WHOLE)..]);
        if self.bytes.len() > WHOLE || (self.cut && self.bytes.len() > 2 * TAIL) {
            self.cut = true;
            self.bytes.drain(..self.bytes.len() - TAIL);
            self.bytes.shrink_to(2 * TAIL);
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the beginning was dropped.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }

    fn clear(&mut self) {
        self.cut = false;
        self.bytes.clear();
        self.bytes.shrink_to(4096);
    }
}

/// Splits a stream into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Tail,
}

impl Lines {
    /// Calls `take` for each line that this piece completes; the flags are whether the whole line is in this piece, and
    /// whether its beginning was dropped.
    pub(crate) fn feed(&mut self, mut data: &[u8], mut take: impl FnMut(&[u8], bool, bool)) {
        while let Some(end) = memchr(b'\n', data) {
            if self.partial.bytes.is_empty() {
                take(&data[..end], true, false);
            } else {
                self.partial.push(&data[..end]);
                take(self.partial.bytes(), false, self.partial.is_cut());
                self.partial.clear();
            }
            data = &data[end + 1..];
        }
        if !data.is_empty() {
            self.partial.push(data);
        }
    }

    /// The last line, where the stream does not end with a newline.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(&[u8], bool)) {
        if !self.partial.bytes.is_empty() {
            take(self.partial.bytes(), self.partial.is_cut());
            self.partial.clear();
        }
    }
}

/// The value of the last occurrence of a quoted key, for texts whose beginning is missing.
pub(crate) fn last_value(data: &[u8], key: &str) -> Option<serde_json::Value> {
    let at = memmem::rfind(data, key.as_bytes())?;
    let after = data.get(at + key.len()..)?.trim_ascii_start().strip_prefix(b":")?;
    serde_json::Deserializer::from_slice(after).into_iter().next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        let mut take = |line: &[u8]| found.push(String::from_utf8_lossy(line).into_owned());
        for piece in pieces {
            lines.feed(piece, |line, _, _| take(line));
        }
        lines.finish(|line, _| take(line));
        found
    }

    #[test]
    fn finds_the_same_lines_however_the_stream_is_cut() {
        let whole = b"data: one\n\ndata: two\nlast";
        let expected = ["data: one", "", "data: two", "last"];
        for at in 0..whole.len() {
            let (a, b) = whole.split_at(at);
            let (b, c) = b.split_at(b.len() / 2);
            assert_eq!(lines(&[a, b, c]), expected, "cut at {at}");
        }
    }

    #[test]
    fn keeps_only_the_end_of_a_line_that_never_ends() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 16 * 1024]);
            assert!(tail.bytes.capacity() <= 3 * WHOLE);
        }
        tail.push(br#""usage": {"output_tokens": 7}}"#);
        assert!(tail.is_cut() && tail.bytes.capacity() <= 4 * TAIL, "{}", tail.bytes.capacity());
        assert_eq!(last_value(tail.bytes(), r#""usage""#).unwrap()["output_tokens"], 7);
    }
}
