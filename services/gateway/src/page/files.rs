//! The files of the page.

use std::borrow::Cow;

use bytes::Bytes;
use rust_embed::RustEmbed;

/// Files by their path below the page's root.
pub(super) trait Files: Send + Sync {
    /// A file, or none.
    fn get(&self, name: &str) -> Option<Bytes>;
}

/// The files that existed when the gateway was built.
pub(super) struct Embedded;

#[derive(RustEmbed)]
#[folder = "../../web/app/dist"]
#[allow_missing = true]
struct Dist;

impl Files for Embedded {
    fn get(&self, name: &str) -> Option<Bytes> {
        Some(match Dist::get(name)?.data {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => bytes.into(),
        })
    }
}

/// Whether a file can be requested by its own name. Names with a leading dot belong to the build, the index is served
/// at the page's paths, and compressed forms under the name of the original.
pub(super) fn is_public(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    !hidden && name != "index.html" && ![".br", ".gz", ".html"].iter().any(|end| name.ends_with(end))
}

/// The media type of a file by its name.
pub(super) fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end) {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
