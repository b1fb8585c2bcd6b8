//! The page as browsers request it.

use std::collections::BTreeMap;

use http_body_util::BodyExt as _;

use super::*;

struct Built(BTreeMap<&'static str, &'static str>);

impl Files for Built {
    fn get(&self, name: &str) -> Option<Bytes> {
        self.0.get(name).map(|text| Bytes::from_static(text.as_bytes()))
    }
}

const SCRIPT: &str = "/assets/index-1a2b.js";

fn page(files: &[(&'static str, &'static str)]) -> Page {
    let files = Arc::new(Built(files.iter().copied().collect()));
    Page { files, random: Env::system().random }
}

fn built() -> Page {
    page(&[
        ("index.html", "<meta name=\"csp-nonce\" content=\"__CSP_NONCE__\" />"),
        ("assets/index-1a2b.js", "script"),
        ("assets/index-1a2b.js.br", "b"),
        ("assets/index-1a2b.js.gz", "gz"),
        ("assets/plain-1a2b.css", "style"),
        ("robots.txt", "none"),
        (".vite/manifest.json", "{}"),
    ])
}

struct Seen {
    status: http::StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

async fn ask(page: &Page, method: Method, path: &str, headers: &[(&str, &str)]) -> Option<Seen> {
    let pairs = headers.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
    let answer = page.answer(&method, path, &pairs.collect())?;
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Some(Seen {
        status: parts.status,
        headers: parts.headers,
        text: String::from_utf8(bytes.to_vec()).unwrap(),
    })
}

async fn open(page: &Page, path: &str) -> Option<Seen> {
    ask(page, Method::GET, path, &[("accept", "text/html,*/*;q=0.8")]).await
}

#[tokio::test]
async fn every_place_in_the_page_is_the_page_and_nothing_else_is() {
    let page = built();
    for place in ["/", "/sign-in", "/device", "/device/psi_1", "/o/org_1", "/o/org_1/t/task_1"] {
        assert!(open(&page, place).await.unwrap().text.contains("csp-nonce"), "{place}");
        let by_program = ask(&page, Method::GET, place, &[("accept", "*/*")]).await;
        assert!(by_program.is_none(), "{place}");
        assert!(ask(&page, Method::POST, place, &[("accept", "text/html")]).await.is_none());
    }
    for nothing in ["/nothing.txt", "/assets/gone-1.js", "/foundry.task.v1.TaskService/GetTask", ""] {
        assert!(open(&page, nothing).await.is_none(), "{nothing}");
    }
}

#[tokio::test]
async fn an_address_without_anything_is_told_by_the_page_to_people_and_not_to_programs() {
    let page = built();
    for nothing in ["/nothing", "/o", "/sign-in/x", "/devices", "/etc/passwd"] {
        let seen = open(&page, nothing).await.unwrap();
        assert!(seen.status == 404 && seen.text.contains("csp-nonce"), "{nothing}");
        assert!(ask(&page, Method::GET, nothing, &[("accept", "*/*")]).await.is_none(), "{nothing}");
    }
}

#[tokio::test]
async fn each_answer_has_a_nonce_of_its_own_that_policy_and_page_agree_on() {
    let page = built();
    let (first, second) = (open(&page, "/").await.unwrap(), open(&page, "/").await.unwrap());
    assert_ne!(first.text, second.text);
    let nonce = first.text.split('"').nth(3).unwrap();
    assert_eq!(nonce.len(), 22);
    let policy = first.header("content-security-policy");
    assert!(policy.contains(&format!("style-src 'self' 'nonce-{nonce}';")), "{policy}");
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    for never in ["unsafe", "http:", "https:", "*"] {
        assert!(!policy.contains(never), "{never} in {policy}");
    }
    // Pictures of messages and agents, which the page has loaded itself; no other kind of content may be a blob.
    let from_page: Vec<&str> = policy.split("; ").filter(|part| part.contains("blob:")).collect();
    assert_eq!(from_page, ["img-src 'self' data: blob:"], "{policy}");
    assert_eq!(first.header("cache-control"), "no-store");
}

#[tokio::test]
async fn every_answer_is_protected() {
    let page = built();
    for answer in [open(&page, "/").await.unwrap(), open(&page, SCRIPT).await.unwrap()] {
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cross-origin-opener-policy"), "same-origin");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert!(answer.header("content-security-policy").ends_with("frame-ancestors 'none'"));
        assert!(!answer.header("permissions-policy").is_empty());
    }
}

#[tokio::test]
async fn a_file_comes_in_the_smallest_form_that_is_there_and_taken() {
    let page = built();
    for (taken, text, encoding) in
        [("gzip, br", "b", "br"), ("gzip", "gz", "gzip"), ("br;q=0", "script", ""), ("", "script", "")]
    {
        let answer = ask(&page, Method::GET, SCRIPT, &[("accept-encoding", taken)]).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.header("content-encoding")), (text, encoding), "{taken}");
        assert_eq!(answer.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(answer.header("vary"), "accept-encoding");
        assert_eq!(answer.header("content-length"), text.len().to_string());
        assert_eq!(answer.header("cache-control"), "public, max-age=31536000, immutable");
    }
    let unpacked =
        ask(&page, Method::GET, "/assets/plain-1a2b.css", &[("accept-encoding", "br")]).await.unwrap();
    assert_eq!((unpacked.text.as_str(), unpacked.header("content-encoding")), ("style", ""));
    assert_eq!(open(&page, "/robots.txt").await.unwrap().header("cache-control"), "no-cache");
}

#[tokio::test]
async fn a_head_has_everything_but_the_body() {
    let page = built();
    for (path, accept) in [(SCRIPT, "*/*"), ("/", "text/html")] {
        let head = ask(&page, Method::HEAD, path, &[("accept", accept)]).await.unwrap();
        let whole = ask(&page, Method::GET, path, &[("accept", accept)]).await.unwrap();
        assert_eq!(head.text, "");
        assert_eq!(head.header("content-length"), whole.text.len().to_string());
    }
}

#[tokio::test]
async fn no_path_leads_out_of_the_page_or_to_what_is_the_builds_own() {
    let page = built();
    for path in [
        "/../Cargo.toml",
        "/assets/../index.html",
        "/assets//index-1a2b.js",
        "//assets/index-1a2b.js",
        "/%2e%2e/Cargo.toml",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/..\\..\\etc\\passwd",
        "/.vite/manifest.json",
        "/index.html",
        "/assets/index-1a2b.js.br",
        "/assets/",
        "/assets",
    ] {
        assert!(open(&page, path).await.is_none(), "{path}");
        assert!(open(&Page::embedded(&Env::system()), path).await.is_none(), "{path}");
    }
}

#[tokio::test]
async fn without_a_build_the_page_says_how_to_make_one() {
    let page = page(&[]);
    let answer = open(&page, "/").await.unwrap();
    assert!(answer.text.contains("make web") && !answer.text.contains(NONCE));
    assert!(open(&page, SCRIPT).await.is_none());
}
