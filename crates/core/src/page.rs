//! Page sizes and opaque page tokens of list calls.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Error, Result};

/// Entries a list returns when the caller names no size.
pub const DEFAULT_PAGE_SIZE: u32 = 50;
/// Most entries a list returns, whatever the caller asks for.
pub const MAX_PAGE_SIZE: u32 = 500;

/// An opaque position in a list: the sort key of the last entry already returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken(pub String);

impl PageToken {
    /// The text that a caller hands back.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }
}

/// A validated page request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Entries to return, 1 to [`MAX_PAGE_SIZE`].
    pub size: u32,
    /// Where to go on; none = from the start.
    pub after: Option<PageToken>,
}

impl PageRequest {
    /// Validates what came over the wire: 0 means the default, larger sizes are capped.
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
        let text =
            URL_SAFE_NO_PAD.decode(page_token).ok().and_then(|b| String::from_utf8(b).ok()).ok_or_else(
                || Error::invalid_field("page_token", "is not a page token returned by this method"),
            )?;
        Ok(Self { size, after: Some(PageToken(text)) })
    }
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
    fn refuses_negative_sizes_and_foreign_tokens() {
        assert!(PageRequest::parse(-1, "").is_err());
        assert!(PageRequest::parse(1, "%%%").is_err());
    }
}
