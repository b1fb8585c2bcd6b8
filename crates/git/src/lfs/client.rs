//! Where a remote has the objects of Git LFS: its server, spoken to in the batch API with basic transfers, or a directory
//! of this host. Over ssh none is known.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use super::hosts::Hosts;
use super::local::Local;
use super::{Pointer, Store};
use crate::access::Access;
use crate::{GitError, GitErrorKind, RemoteUrl, Result};

/// The type of requests and answers.
const TYPE: &str = "application/vnd.git-lfs+json";
/// Objects of one request, as `git lfs` has it.
pub(crate) const BATCH: usize = 100;
/// Bytes of an answer.
const MAX_ANSWER: usize = 4 << 20;
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
/// Redirections of one download, to hosts that are allowed.
const HOPS: usize = 3;

/// One remote, for one operation.
pub(crate) struct Server(Kind);

enum Kind {
    Http(Box<Http>),
    Local(Local),
}

struct Http {
    /// Ends with `/info/lfs`.
    base: Url,
    hosts: Hosts,
    access: Option<Access>,
}

/// What a server says of an object that it is asked for.
pub(crate) struct Asked {
    pub(crate) pointer: Pointer,
    pub(crate) answer: Answer,
}

pub(crate) enum Answer {
    /// How to transfer it.
    Transfer(Transfer),
    /// Nothing is to be done: the server has what is to be uploaded.
    Nothing,
    /// Why not, in the server's words.
    Refused(String),
}

/// How to transfer one object; `None` where that needs no description.
pub(crate) struct Transfer(Option<Actions>);

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Download,
    Upload,
}

#[derive(Serialize)]
struct Request<'a> {
    operation: &'a str,
    transfers: [&'a str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    r#ref: Option<Named<'a>>,
    objects: Vec<Object<'a>>,
    hash_algo: &'a str,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Object<'a> {
    oid: &'a str,
    size: u64,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    transfer: Option<String>,
    objects: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Said>,
}

#[derive(Deserialize, Default)]
struct Actions {
    download: Option<Action>,
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Said {
    message: String,
}

impl Server {
    /// The server of a remote: always below the remote's own URL, whatever the repository's `.lfsconfig` says.
    ///
    /// # Errors
    /// `LFS_NOT_SERVED` for a remote that is reached by ssh, and for a linked work tree; when the directory on this host is not allowed.
    pub(crate) async fn of(remote: &RemoteUrl) -> Result<Self> {
        if remote.is_local() {
            let endpoint = remote.pin().await?;
            let local = Local::new(endpoint.operand.as_ref());
            let linked =
                || not_served("the repository is a linked work tree, whose files of Git LFS are elsewhere");
            return Ok(Self(Kind::Local(local.ok_or_else(linked)?)));
        }
        let Some(url) = remote.http_url() else {
            return Err(not_served(
                "objects of Git LFS are not transferred for remotes that are reached by ssh",
            ));
        };
        let mut base = url.clone();
        let path = url.path().trim_end_matches('/');
        let own = path.strip_suffix(".git").unwrap_or(path);
        base.set_path(&format!("{own}.git/info/lfs"));
        Ok(Self(Kind::Http(Box::new(Http { base, hosts: Hosts::new(remote), access: remote.own_access()? }))))
    }

    /// Asks for objects, at most [`BATCH`]: an answer may have megabytes, and its addresses are good for some minutes. The
    /// answers are in the order of the objects.
    ///
    /// # Errors
    /// When the server cannot be asked, refuses to be, or answers with something else.
    pub(crate) async fn ask(
        &mut self,
        direction: Direction,
        branch: Option<&str>,
        pointers: &[Pointer],
    ) -> Result<Vec<Asked>> {
        match &mut self.0 {
            Kind::Local(local) => Ok(pointers
                .iter()
                .map(|pointer| {
                    let answer = match (direction, local.has(pointer)) {
                        (Direction::Download, false) => Answer::Refused("it is not there".to_owned()),
                        (Direction::Upload, true) => Answer::Nothing,
                        _ => Answer::Transfer(Transfer(None)),
                    };
                    Asked { pointer: pointer.clone(), answer }
                })
                .collect()),
            Kind::Http(http) => http.ask(direction, branch, pointers).await,
        }
    }

    /// Takes an object into a store.
    ///
    /// # Errors
    /// When it cannot be had, or is another one than was asked for.
    pub(crate) async fn download(
        &mut self,
        pointer: &Pointer,
        transfer: Transfer,
        store: &Store,
    ) -> Result<()> {
        match (&mut self.0, transfer.0.and_then(|actions| actions.download)) {
            (Kind::Local(local), _) => local.download(pointer, store).await,
            (Kind::Http(http), Some(action)) => http.download(pointer, &action, store).await,
            (Kind::Http(_), None) => Err(unexpected("does not say where an object is")),
        }
    }

    /// Gives an object of a store to the server.
    ///
    /// # Errors
    /// `LFS_UPLOAD_REFUSED` with the server's words, or when it cannot be asked.
    pub(crate) async fn upload(
        &mut self,
        pointer: &Pointer,
        transfer: Transfer,
        store: &Store,
    ) -> Result<()> {
        match (&mut self.0, transfer.0) {
            (Kind::Local(local), _) => local.upload(pointer, store).await,
            (Kind::Http(http), Some(Actions { upload: Some(upload), verify, .. })) => {
                http.upload(pointer, &upload, store).await?;
                match verify {
                    Some(verify) => http.verify(pointer, &verify).await,
                    None => Ok(()),
                }
            }
            (Kind::Http(_), _) => Err(unexpected("does not say where an object is to be put")),
        }
    }
}

impl Http {
    async fn ask(
        &mut self,
        direction: Direction,
        branch: Option<&str>,
        part: &[Pointer],
    ) -> Result<Vec<Asked>> {
        let request = Request {
            operation: if direction == Direction::Upload { "upload" } else { "download" },
            transfers: ["basic"],
            r#ref: branch.map(|name| Named { name }),
            objects: part.iter().map(|p| Object { oid: p.oid(), size: p.size }).collect(),
            hash_algo: "sha256",
        };
        let body =
            serde_json::to_vec(&request).map_err(|_| GitError::failed("a request cannot be encoded"))?;
        let url = Url::parse(&format!("{}/objects/batch", self.base))
            .map_err(|_| GitError::failed("the address of the LFS server cannot be made"))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TYPE));
        let (status, answer) = self.call(Method::POST, &url, headers, Some(body.into())).await?;
        if matches!(status.as_u16(), 404 | 405 | 410 | 501) {
            return Err(not_served("the remote has no LFS server, or not for us"));
        }
        if !status.is_success() {
            return Err(self.declined(direction, &url, status, &answer));
        }
        let batch: Batch =
            serde_json::from_slice(&answer).map_err(|_| unexpected("does not answer in the batch API"))?;
        if batch.transfer.is_some_and(|transfer| transfer != "basic") {
            return Err(unexpected("knows no basic transfers"));
        }
        let mut found: BTreeMap<String, Found> =
            batch.objects.into_iter().map(|object| (object.oid.clone(), object)).collect();
        let answered = part.iter().map(|pointer| {
            let answer = match found.remove(pointer.oid()) {
                None => Answer::Refused("the server does not mention it".to_owned()),
                Some(Found { error: Some(said), .. }) => Answer::Refused(self.words(&said.message)),
                Some(Found { actions: Some(actions), .. }) if actions.of(direction) => {
                    Answer::Transfer(Transfer(Some(actions)))
                }
                Some(_) => Answer::Nothing,
            };
            Asked { pointer: pointer.clone(), answer }
        });
        Ok(answered.collect())
    }

    async fn download(&mut self, pointer: &Pointer, action: &Action, store: &Store) -> Result<()> {
        let (mut url, mut headers) = self.target(action)?;
        for _ in 0..=HOPS {
            let mut response = self.send(Method::GET, &url, headers, None).await?;
            let status = response.status();
            if status.is_redirection() {
                let to = response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
                url =
                    to.and_then(|to| url.join(to).ok()).ok_or_else(|| unexpected("redirects to nowhere"))?;
                // What the server has given for one address is for no other.
                headers = HeaderMap::new();
                continue;
            }
            if status != StatusCode::OK {
                let said = read(&mut response).await?;
                return Err(self.declined(Direction::Download, &url, status, &said));
            }
            let mut incoming = store.incoming_object(pointer).await?;
            while let Some(piece) = silent(response.chunk()).await? {
                incoming.write(&piece).await?;
            }
            return incoming.finish().await;
        }
        Err(unexpected("redirects again and again"))
    }

    async fn upload(&mut self, pointer: &Pointer, action: &Action, store: &Store) -> Result<()> {
        let (url, mut headers) = self.target(action)?;
        let file = tokio::fs::File::open(store.path(pointer)).await;
        let file = file.map_err(|e| GitError::io("cannot read an LFS object", &e))?;
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(pointer.size));
        if !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        }
        let (status, said) = self.call(Method::PUT, &url, headers, Some(reqwest::Body::from(file))).await?;
        if status.is_success() { Ok(()) } else { Err(self.declined(Direction::Upload, &url, status, &said)) }
    }

    async fn verify(&mut self, pointer: &Pointer, action: &Action) -> Result<()> {
        let (url, mut headers) = self.target(action)?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TYPE));
        let body = serde_json::to_vec(&Object { oid: pointer.oid(), size: pointer.size })
            .map_err(|_| GitError::failed("a request cannot be encoded"))?;
        let (status, said) = self.call(Method::POST, &url, headers, Some(body.into())).await?;
        if status.is_success() { Ok(()) } else { Err(self.declined(Direction::Upload, &url, status, &said)) }
    }

    /// Where an action leads, with what the server wants to have sent along.
    fn target(&self, action: &Action) -> Result<(Url, HeaderMap)> {
        let url = self.base.join(&action.href).map_err(|_| unexpected("names an address that is none"))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &action.header {
            let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) else {
                continue;
            };
            headers.insert(name, value);
        }
        foundry_http_client::drop_hop_by_hop(&mut headers);
        headers.remove(header::HOST);
        headers.remove(header::CONTENT_LENGTH);
        Ok((url, headers))
    }

    /// One request with a short answer.
    async fn call(
        &mut self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<reqwest::Body>,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let mut response = self.send(method, url, headers, body).await?;
        Ok((response.status(), read(&mut response).await?))
    }

    /// Sends the credential to the remote's own origin alone, unless the server has given another one for this address.
    async fn send(
        &mut self,
        method: Method,
        url: &Url,
        mut headers: HeaderMap,
        body: Option<reqwest::Body>,
    ) -> Result<reqwest::Response> {
        let client = self.hosts.client(url).await?;
        if let Some(access) = self.access.as_ref().filter(|_| self.hosts.is_own(url))
            && !headers.contains_key(header::AUTHORIZATION)
        {
            let mut value = HeaderValue::try_from(access.authorization()?)
                .map_err(|_| GitError::failed("the credential cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static(TYPE));
        let request = client.request(method, url.clone()).headers(headers);
        let request = match body {
            Some(body) => request.body(body),
            None => request,
        };
        request.send().await.map_err(|e| unreachable(&e))
    }

    /// The error for an answer that is none, with the server's words. The credential is refused by its own origin alone; what
    /// another host has refused is what the server has given for the object.
    fn declined(&self, direction: Direction, url: &Url, status: StatusCode, said: &[u8]) -> GitError {
        let said: Said = serde_json::from_slice(said).unwrap_or_default();
        let words = self.words(&said.message);
        let words = if words.is_empty() { format!("HTTP {}", status.as_u16()) } else { words };
        let is_busy = status.is_server_error()
            && status != StatusCode::INSUFFICIENT_STORAGE
            && status != StatusCode::NOT_IMPLEMENTED;
        let is_own = self.hosts.is_own(url);
        match (status, direction) {
            (StatusCode::UNAUTHORIZED, _) if is_own && self.access.is_some() => {
                let text = "the LFS server of the remote refused the stored credential";
                GitError::new(GitErrorKind::Auth, "REPOSITORY_CREDENTIALS_REFUSED", text)
            }
            (StatusCode::UNAUTHORIZED, _) if is_own => {
                let text = "the LFS server of the remote needs a credential, and none is stored for it";
                GitError::new(GitErrorKind::Auth, "REPOSITORY_CREDENTIALS_REQUIRED", text)
            }
            (StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT, _) => busy(&words),
            _ if is_busy => busy(&words),
            (_, Direction::Upload) => GitError::new(GitErrorKind::Invalid, "LFS_UPLOAD_REFUSED", words),
            _ => GitError::new(GitErrorKind::Failed, "LFS_NOT_SERVED", words),
        }
    }

    /// Words of the server: bounded, harmless, and without the credential.
    fn words(&self, said: &str) -> String {
        let said = self.access.as_ref().map_or_else(|| said.to_owned(), |access| access.redact(said));
        crate::mirror::harmless(&said)
    }
}

impl Actions {
    fn of(&self, direction: Direction) -> bool {
        match direction {
            Direction::Download => self.download.is_some(),
            Direction::Upload => self.upload.is_some(),
        }
    }
}

async fn read(response: &mut reqwest::Response) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = silent(response.chunk()).await? {
        all.extend_from_slice(&piece);
        if all.len() > MAX_ANSWER {
            return Err(unexpected("answers without an end"));
        }
    }
    Ok(all)
}

async fn silent<T>(next: impl Future<Output = std::result::Result<T, reqwest::Error>>) -> Result<T> {
    let answered = tokio::time::timeout(SILENCE, next).await;
    answered
        .map_err(|_| GitError::new(GitErrorKind::Timeout, "GIT_TIMEOUT", "the LFS server says nothing"))?
        .map_err(|e| unreachable(&e))
}

fn unreachable(e: &reqwest::Error) -> GitError {
    let text = "the LFS server of the remote cannot be reached";
    // Its address may be a signed one.
    let cause = std::error::Error::source(e).map(ToString::to_string).unwrap_or_default();
    GitError::new(GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE", text).with_stderr(cause)
}

fn busy(words: &str) -> GitError {
    let text = format!("the LFS server of the remote failed: {words}");
    GitError::new(GitErrorKind::Unreachable, "GIT_REMOTE_UNREACHABLE", text)
}

fn not_served(text: &str) -> GitError {
    GitError::new(GitErrorKind::NotFound, "LFS_NOT_SERVED", text)
}

fn unexpected(what: &str) -> GitError {
    GitError::new(
        GitErrorKind::Protocol,
        "LFS_ANSWER_UNEXPECTED",
        format!("the LFS server of the remote {what}"),
    )
}
