//! Lines of bounded length from a source that is not trusted.

use std::io::{self, BufRead};

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Within the bound.
    Whole(Vec<u8>),
    /// Longer than the bound; skipped, with its length.
    TooLong(u64),
}

/// Reads the next line; none at the end. A last line without an end counts as one.
pub(crate) fn next_line(source: &mut impl BufRead, max: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut length: u64 = 0;
    loop {
        let chunk = match source.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if chunk.is_empty() {
            return Ok((length > 0).then(|| finish(line, length, max)));
        }
        let end = chunk.iter().position(|b| *b == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        length += part.len() as u64;
        if length <= max as u64 {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        source.consume(used);
        if end.is_some() {
            return Ok(Some(finish(line, length, max)));
        }
    }
}

fn finish(line: Vec<u8>, length: u64, max: usize) -> Line {
    if length > max as u64 { Line::TooLong(length) } else { Line::Whole(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_a_line_beyond_the_bound_and_goes_on_with_the_next() {
        let text = format!("ab\n\n{}\ncd", "x".repeat(100));
        let mut source = io::BufReader::with_capacity(3, text.as_bytes());
        let mut next = || next_line(&mut source, 10).unwrap();
        assert_eq!(next(), Some(Line::Whole(b"ab".to_vec())));
        assert_eq!(next(), Some(Line::Whole(Vec::new())));
        assert_eq!(next(), Some(Line::TooLong(100)));
        assert_eq!(next(), Some(Line::Whole(b"cd".to_vec())));
        assert_eq!(next(), None);
    }
}
