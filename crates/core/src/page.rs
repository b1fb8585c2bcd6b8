//! Page sizes and opaque page tokens of list calls.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Error, Result};

/// Entries a list returns when the caller names no size.
const DEFAULT_PAGE_SIZE: u32 = 50;
/// Most entries a list returns, whatever the caller asks for.
const MAX_PAGE_SIZE: u32 = 500;

/// An opaque position in a list: the sort key of the last entry already returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

impl PageToken {
    /// The text that a caller hands back.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }

    /// The text of the next page's token; empty when there is no next page.
    pub fn encode_next(next: Option<Self>) -> String {
        next.map(|token| token.encode()).unwrap_or_default()
    }
}

/// A validated page request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Entries to return, 1 to 500.
    pub size: u32,
    /// Position after which the page begins; `None` for the first page.
    pub after: Option<PageToken>,
}

impl PageRequest {
    /// Validates a page request from the wire: 0 means the default, larger sizes are capped.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a negative size or a token this server did not make.
    pub fn parse(page_size: i32, page_token: &str) -> Result<Self> {
        let size = u32::try_from(page_size)
            .map_err(|_| Error::invalid_field("page_size", "must not be negative"))?;
        let size = if size == 0 { DEFAULT_PAGE_SIZE } else { size.min(MAX_PAGE_SIZE) };
        if page_token.is_empty() {
            return Ok(Self { size, after: None });
        }
        let text = URL_SAFE_NO_PAD.decode(page_token).ok().and_then(|b| String::from_utf8(b).ok());
        Ok(Self { size, after: Some(PageToken(text.ok_or_else(foreign)?)) })
    }

    /// How many entries to read: one more than the page holds, which shows whether another page follows.
    pub fn limit(&self) -> u32 {
        self.size.saturating_add(1)
    }

    /// The position after which the page begins, as `read` parses it from the token; `start` for the first page.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a token that `read` does not parse, such as one of another method.
    pub fn begins_after<T>(&self, start: T, read: impl FnOnce(&str) -> Option<T>) -> Result<T> {
        self.after.as_ref().map_or(Ok(start), |token| read(&token.0).ok_or_else(foreign))
    }

    /// Cuts what was read to one page, and gives the position after which the next one begins; `None` after the last.
    pub fn cut<T>(&self, mut read: Vec<T>, position: impl Fn(&T) -> String) -> (Vec<T>, Option<PageToken>) {
        let size = self.size as usize;
        let more = read.len() > size;
        read.truncate(size);
        let next = read.last().filter(|_| more).map(|last| PageToken(position(last)));
        (read, next)
    }
}

fn foreign() -> Error {
    Error::invalid_field("page_token", "is not a page token returned by this method")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_the_size_and_reads_its_own_tokens() {
        let token = PageToken("2026|task_1".into());
        let page = PageRequest::parse(9_999, &token.encode()).unwrap();
        assert_eq!(page, PageRequest { size: MAX_PAGE_SIZE, after: Some(token) });
        assert_eq!(PageRequest::parse(0, "").unwrap().size, DEFAULT_PAGE_SIZE);
    }

    #[test]
    fn cuts_what_was_read_and_names_a_next_page_only_where_there_is_one() {
        let page = PageRequest::parse(2, "").unwrap();
        assert_eq!(page.limit(), 3);
        let (first, next) = page.cut(vec![1, 2, 3], i32::to_string);
        assert_eq!((first, next.as_ref().map(|t| t.0.as_str())), (vec![1, 2], Some("2")));
        let after = PageRequest { after: next, ..page.clone() };
        assert_eq!(after.begins_after(0, |text| text.parse().ok()).unwrap(), 2);
        assert_eq!(page.begins_after(0, |_| None).unwrap(), 0);
        assert_eq!(page.cut(vec![3, 4], i32::to_string), (vec![3, 4], None));
        assert_eq!(page.cut(Vec::new(), i32::to_string), (Vec::new(), None));
    }

    #[test]
    fn refuses_negative_sizes_and_foreign_tokens() {
        assert!(PageRequest::parse(-1, "").is_err());
        assert!(PageRequest::parse(1, "%%%").is_err());
        let page = PageRequest { size: 1, after: Some(PageToken("x".into())) };
        assert!(page.begins_after(0, |text| text.parse().ok()).is_err());
    }
}
