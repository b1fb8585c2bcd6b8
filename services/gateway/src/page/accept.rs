//! The content types and encodings that a browser accepts.

use http::header::{self, HeaderMap, HeaderName};

/// A compressed form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Brotli,
    Gzip,
}

impl Encoding {
    /// Its name in HTTP.
    pub(super) fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The name of the embedded file with this form of a file.
    pub(super) fn name_of(self, name: &str) -> String {
        let end = match self {
            Self::Brotli => "br",
            Self::Gzip => "gz",
        };
        format!("{name}.{end}")
    }
}

/// The encodings that the client accepts, the smallest result first.
pub(super) fn encodings(headers: &HeaderMap) -> impl Iterator<Item = Encoding> {
    let takes = |encoding: &Encoding| names(headers, &header::ACCEPT_ENCODING, encoding.token());
    [Encoding::Brotli, Encoding::Gzip].into_iter().filter(takes)
}

/// Whether a browser opens a page. Programs that accept anything (`*/*`) do not count.
pub(super) fn html(headers: &HeaderMap) -> bool {
    names(headers, &header::ACCEPT, "text/html")
}

/// Whether a list contains a value without refusing it (`;q=0`).
fn names(headers: &HeaderMap, list: &HeaderName, value: &str) -> bool {
    let lines = headers.get_all(list).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(value));
        let quality = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
        named && quality.is_none_or(|q| q.parse::<f32>().is_ok_and(|q| q > 0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Vec<Encoding> {
        let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, text.parse().unwrap())]);
        encodings(&headers).collect()
    }

    #[test]
    fn the_smallest_form_that_is_taken_comes_first() {
        use Encoding::{Brotli, Gzip};
        assert_eq!(taken("gzip, deflate, br, zstd"), [Brotli, Gzip]);
        assert_eq!(taken("gzip"), [Gzip]);
        assert_eq!(taken("br;q=0, GZIP;q=0.5"), [Gzip]);
        assert_eq!(taken("br;q=x"), []);
        assert_eq!(taken("identity, brown, *"), []);
        assert_eq!(encodings(&HeaderMap::new()).count(), 0);
    }

    #[test]
    fn only_who_names_html_opens_pages() {
        let opens = |text: &str| html(&HeaderMap::from_iter([(header::ACCEPT, text.parse().unwrap())]));
        assert!(opens("text/html,application/xhtml+xml,*/*;q=0.8"));
        for other in ["*/*", "application/json", "text/html;q=0", ""] {
            assert!(!opens(other), "{other}");
        }
    }
}
