//! Which requests may use a session cookie: gRPC-Web requests of a script on a page of the gateway's own origin, or
//! of one that the configuration lists. No form, link, image or beacon sends such a request.

use foundry_core::{Code, Error, Result};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Uri};

use crate::config::Config;
use crate::proxies::Secure;
use crate::web;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The content type as the client sent it, in the extensions of the request: the header is changed on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentContentType(pub(crate) HeaderValue);

/// The origin of a page that passed the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    secure: bool,
    port: u16,
}

impl Page {
    /// Parses an `Origin` header; none for `null` and anything that is not the origin of a web page.
    pub(super) fn parse(origin: &str) -> Option<Self> {
        let (secure, authority) = match origin.split_once("://")? {
            ("https", authority) => (true, authority),
            ("http", authority) => (false, authority),
            _ => return None,
        };
        let authority: http::uri::Authority = authority.parse().ok()?;
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None if secure => 443,
            None => 80,
        };
        Some(Self { secure, port })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

/// The rule that a request breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It has no origin, or the origin of another page.
    Origin,
    /// Its host is not a name of the gateway.
    Host,
    /// Its content type is not exactly that of gRPC-Web.
    ContentType,
    /// The browser reports that a page of another site sent it, or no page.
    FetchSite,
}

impl Broken {
    pub(super) fn into_error(self) -> Error {
        let (rule, text) = match self {
            Self::Origin => ("origin", "the request is not from the gateway's own page"),
            Self::Host => ("host", "the gateway does not serve its page under this host name"),
            Self::ContentType => ("content_type", "a page must use application/grpc-web+proto"),
            Self::FetchSite => ("sec_fetch_site", "the browser reports that another site sent the request"),
        };
        Error::new(Code::PermissionDenied, "PAGE_REFUSED", format!("the session cookie was rejected: {text}"))
            .with("rule", rule)
            .next_action(
                "call from the page at the gateway's address, list its origin in `gateway.allowed_origins`, \
                 or send a bearer token",
            )
    }
}

/// Applies the rules to requests.
pub(crate) struct PageRules {
    listed: Vec<HeaderValue>,
}

impl PageRules {
    /// From the configuration. The word `loopback` does not count: another page of this machine may belong to an
    /// agent.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an origin that is not valid.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let mut listed = web::exact_origins(&config.allowed_origins)?;
        listed.extend(web::public_origin(config)?);
        Ok(Self { listed })
    }

    /// The page that sent a request of gRPC-Web, or the rule that it breaks.
    pub(super) fn judge<B>(&self, request: &Request<B>) -> Result<Page, Broken> {
        match request.extensions().get::<SentContentType>().map(|SentContentType(sent)| sent.as_bytes()) {
            Some(b"application/grpc-web" | b"application/grpc-web+proto") => self.judge_origin(request),
            // What is wrong with the origin is the better answer.
            _ => self.judge_origin(request).and(Err(Broken::ContentType)),
        }
    }

    /// The page that sent a request of any type, or the rule that it breaks.
    fn judge_origin<B>(&self, request: &Request<B>) -> Result<Page, Broken> {
        let headers = request.headers();
        let origin = only(headers, &header::ORIGIN).ok_or(Broken::Origin)?;
        let text = origin.to_str().map_err(|_| Broken::Origin)?;
        let page = Page::parse(text).ok_or(Broken::Origin)?;
        let listed = self.listed.contains(origin);
        if !listed {
            check_own(text, request)?;
        }
        let sites: Vec<_> = headers.get_all(FETCH_SITE).iter().map(HeaderValue::as_bytes).collect();
        match sites[..] {
            [] | [b"same-origin"] => Ok(page),
            [b"same-site" | b"cross-site"] if listed => Ok(page),
            _ => Err(Broken::FetchSite),
        }
    }
}

/// Checks that the origin is the host of the request itself, by a name that cannot be redirected to this machine.
fn check_own<B>(origin: &str, request: &Request<B>) -> Result<(), Broken> {
    let host = host(request.uri(), request.headers()).ok_or(Broken::Host)?;
    let scheme = if request.extensions().get::<Secure>().is_some() { "https" } else { "http" };
    if origin != format!("{scheme}://{host}") {
        return Err(Broken::Origin);
    }
    if is_fixed(host) { Ok(()) } else { Err(Broken::Host) }
}

/// The value of a header that occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The host that the request was sent to: the authority of HTTP/2, or `Host`; none when they contradict each other.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    if !headers.contains_key(header::HOST) {
        return authority;
    }
    let host = only(headers, &header::HOST)?.to_str().ok()?;
    authority.is_none_or(|a| a == host).then_some(host)
}

/// Whether a host is an address, or the name that always means this machine. The owner of any other name can point it
/// here, so those that are meant must be listed.
fn is_fixed(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else { return false };
    if host.contains('@') {
        return false;
    }
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[(&str, &str)] = &[("host", "127.0.0.1:7100"), ("origin", "http://127.0.0.1:7100")];

    fn judge_by(config: &Config, content_type: &str, headers: &[(&str, &str)]) -> Result<Page, Broken> {
        let mut request = Request::builder().uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        if let Ok(value) = HeaderValue::from_str(content_type) {
            request.extensions_mut().insert(SentContentType(value));
        }
        PageRules::new(config).unwrap().judge(&request)
    }

    fn judge(headers: &[(&str, &str)]) -> Result<Page, Broken> {
        let listed = "https://foundry.example".to_owned();
        let config = Config { allowed_origins: vec!["loopback".to_owned(), listed], ..Config::default() };
        judge_by(&config, "application/grpc-web+proto", headers)
    }

    #[test]
    fn the_origin_is_the_requests_own_or_a_listed_one() {
        for (host, origin) in [
            ("127.0.0.1:7100", "http://127.0.0.1:7100"),
            ("localhost:7100", "http://localhost:7100"),
            ("[::1]:7100", "http://[::1]:7100"),
            ("192.168.1.5", "http://192.168.1.5"),
            ("anything", "https://foundry.example"),
        ] {
            assert!(judge(&[("host", host), ("origin", origin)]).is_ok(), "{origin} at {host}");
        }
        for (host, origin, broken) in [
            ("127.0.0.1:7100", "http://127.0.0.1:9999", Broken::Origin),
            ("127.0.0.1:7100", "http://localhost:7100", Broken::Origin),
            ("127.0.0.1:7100", "https://127.0.0.1:7100", Broken::Origin),
            ("127.0.0.1:7100", "http://127.0.0.1", Broken::Origin),
            ("127.0.0.1:7100", "http://127.0.0.1:7100/", Broken::Origin),
            ("127.0.0.1:7100", "null", Broken::Origin),
            ("127.0.0.1:7100", "file://", Broken::Origin),
            ("127.0.0.1:7100", "", Broken::Origin),
            ("127.0.0.1:7100", "https://foundry.example.evil.example", Broken::Origin),
            ("127.0.0.1:7100", "http://foundry.example", Broken::Origin),
            // A name that its owner points here.
            ("evil.example:7100", "http://evil.example:7100", Broken::Host),
            ("localhost.evil.example", "http://localhost.evil.example", Broken::Host),
            ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example", Broken::Host),
            ("user@127.0.0.1", "http://user@127.0.0.1", Broken::Host),
        ] {
            let got = judge(&[("host", host), ("origin", origin)]);
            assert_eq!(got, Err(broken), "{origin} at {host}");
        }
        assert_eq!(judge(&[("host", "127.0.0.1")]), Err(Broken::Origin));
        assert_eq!(judge(&[("origin", "http://127.0.0.1")]), Err(Broken::Host));
        let twice = [OWN, &[("origin", "http://127.0.0.1:7100")]].concat();
        assert_eq!(judge(&twice), Err(Broken::Origin));
        let twice = [OWN, &[("host", "127.0.0.1:7100")]].concat();
        assert_eq!(judge(&twice), Err(Broken::Host));
    }

    #[test]
    fn the_content_type_is_exact() {
        let config = Config::default();
        for good in ["application/grpc-web", "application/grpc-web+proto"] {
            assert!(judge_by(&config, good, OWN).is_ok(), "{good}");
        }
        for bad in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web-text",
            "application/grpc-web-text+proto",
            "application/grpc-web; charset=utf-8",
            "application/grpc-web+json",
            "Application/grpc-web",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "",
            "\n",
        ] {
            assert_eq!(judge_by(&config, bad, OWN), Err(Broken::ContentType), "{bad}");
        }
    }

    #[test]
    fn the_browsers_own_word_counts_where_it_gives_it() {
        let with =
            |own: &[(&'static str, &'static str)], site| judge(&[own, &[("sec-fetch-site", site)]].concat());
        assert!(with(OWN, "same-origin").is_ok());
        for site in ["same-site", "cross-site", "none", "", "Same-Origin"] {
            assert_eq!(with(OWN, site), Err(Broken::FetchSite), "{site}");
        }
        let listed = &[("host", "127.0.0.1"), ("origin", "https://foundry.example")];
        for site in ["same-origin", "same-site", "cross-site"] {
            assert!(with(listed, site).is_ok(), "{site}");
        }
        assert_eq!(with(listed, "none"), Err(Broken::FetchSite));
    }

    #[test]
    fn the_scheme_is_that_of_the_request_and_no_header_changes_it() {
        let at = |scheme: &str, secure: bool| {
            let mut request = Request::builder()
                .header("host", "10.0.0.1")
                .header("x-forwarded-proto", "https")
                .header("origin", format!("{scheme}://10.0.0.1"))
                .body(())
                .unwrap();
            let exact = SentContentType(HeaderValue::from_static("application/grpc-web"));
            request.extensions_mut().insert(exact);
            if secure {
                request.extensions_mut().insert(Secure);
            }
            PageRules::new(&Config::default()).unwrap().judge(&request)
        };
        assert!(at("https", true).unwrap().is_secure());
        assert_eq!(at("http", true), Err(Broken::Origin));
        assert_eq!(at("https", false), Err(Broken::Origin));
        assert!(!at("http", false).unwrap().is_secure());
    }

    #[test]
    fn knows_the_authority_of_http_2_and_no_contradiction() {
        let ask = |host: Option<&str>| {
            let mut request =
                Request::builder().uri("http://127.0.0.1:7100/x").header("origin", "http://127.0.0.1:7100");
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let mut request = request.body(()).unwrap();
            let exact = SentContentType(HeaderValue::from_static("application/grpc-web"));
            request.extensions_mut().insert(exact);
            PageRules::new(&Config::default()).unwrap().judge(&request)
        };
        assert_eq!(ask(None), Ok(Page { secure: false, port: 7100 }));
        assert!(ask(Some("127.0.0.1:7100")).is_ok());
        assert_eq!(ask(Some("localhost:7100")), Err(Broken::Host));
    }
}
