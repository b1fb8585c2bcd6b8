//! The page: the files of `web/app/dist`, embedded when the gateway is built, served with a strict content security
//! policy. It connects to this origin only, loads no script or image from elsewhere, and cannot be framed.

mod accept;
mod files;
mod policy;

use std::sync::Arc;

use bytes::Bytes;
use foundry_core::{Env, Random};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use tonic::body::Body;

use accept::Encoding;
use files::Files;

/// Placeholder in `index.html` that is replaced by the nonce of each response.
const NONCE: &str = "__CSP_NONCE__";
/// Served in place of the page when it was not built.
const UNBUILT: &str = include_str!("unbuilt.html");
/// Files below it have the hash of their content in their name.
const HASHED: &str = "assets/";

/// Serves the page; cloning shares it.
#[derive(Clone)]
pub(crate) struct Page {
    files: Arc<dyn Files>,
    random: Arc<dyn Random>,
}

impl Page {
    /// The page of this build.
    pub(crate) fn embedded(env: &Env) -> Self {
        Self { files: Arc::new(files::Embedded), random: env.random.clone() }
    }

    /// The response, if the request is for the page or one of its files. The path is not percent-decoded, because no
    /// file of the page needs that.
    pub(crate) fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        if method != Method::GET && method != Method::HEAD {
            return None;
        }
        let mut answer = if is_place(path) && accept::html(headers) {
            self.index()
        } else if let Some(file) = self.file(path.strip_prefix('/')?, headers) {
            file
        } else {
            self.nothing(path, headers)?
        };
        let length = answer.body().len();
        let is_head = method == Method::HEAD;
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        Some(answer.map(|bytes| if is_head { Body::empty() } else { full(bytes) }))
    }

    /// The page itself. Never cached, because each response has its own nonce.
    fn index(&self) -> Response<Bytes> {
        let nonce = policy::nonce(&*self.random);
        let built = self.files.get("index.html");
        let text = built.as_deref().map_or(UNBUILT.into(), String::from_utf8_lossy);
        let mut answer = Response::new(Bytes::from(text.replace(NONCE, &nonce)));
        let headers = answer.headers_mut();
        policy::protect(headers, Some(&nonce));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("accept"));
        answer
    }

    /// The page with status 404, so that a person at an unknown address can find the way from there. Requests by
    /// programs, for files and for paths that nobody would type get no page.
    fn nothing(&self, path: &str, headers: &HeaderMap) -> Option<Response<Bytes>> {
        let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_".contains(&b));
        let of_a_person = plain && !path.contains("//") && !path.starts_with("/assets");
        if !of_a_person || !accept::html(headers) {
            return None;
        }
        let mut answer = self.index();
        *answer.status_mut() = StatusCode::NOT_FOUND;
        Some(answer)
    }

    /// A file of the page, in the smallest existing form that the browser accepts.
    fn file(&self, name: &str, headers: &HeaderMap) -> Option<Response<Bytes>> {
        if !files::is_public(name) {
            return None;
        }
        let plain = self.files.get(name)?;
        let packed = accept::encodings(headers)
            .find_map(|encoding| Some((self.files.get(&encoding.name_of(name))?, encoding)));
        let encoding = packed.as_ref().map(|(_, encoding)| *encoding);
        let mut answer = Response::new(packed.map_or(plain, |(bytes, _)| bytes));
        *answer.status_mut() = StatusCode::OK;
        let headers = answer.headers_mut();
        policy::protect(headers, None);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(files::content_type(name)));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(Encoding::token(encoding)));
        }
        let is_hashed = name.starts_with(HASHED);
        let cache = if is_hashed { "public, max-age=31536000, immutable" } else { "no-cache" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
        Some(answer)
    }
}

/// Whether a path is a route of the page.
fn is_place(path: &str) -> bool {
    let is_one = ["/", "/sign-in", "/device"].contains(&path);
    is_one || ["/o/", "/device/"].iter().any(|below| path.starts_with(below))
}

fn full(bytes: Bytes) -> Body {
    Body::new(axum::body::Body::from(bytes))
}

#[cfg(test)]
mod tests;
