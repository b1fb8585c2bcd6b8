//! Files of Git LFS beside the repositories of [`crate::GitHttp`]: the batch API with basic transfers, in memory; and how a
//! hostile host answers.

#![allow(clippy::expect_used)] // a failure here is a failed test

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::git_http::Request;

/// The server of a host. Cloning shares it.
#[derive(Clone)]
pub struct LfsServer {
    origin: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    behaves: LfsBehaviour,
    /// Ids in the order of their uploads.
    uploads: Vec<String>,
    /// Names of the branches that uploads were for.
    branches: Vec<String>,
}

/// How the server behaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LfsBehaviour {
    /// As it should.
    #[default]
    Fair,
    /// Sends other bytes of the same size.
    WrongBytes,
    /// Sends less than there is.
    TooShort,
    /// Sends bytes for ever.
    Endless,
    /// Redirects downloads to this origin.
    Redirects(String),
    /// Names this origin as the one that has the objects.
    Elsewhere(String),
    /// Refuses uploads with these words.
    Refuses(String),
    /// Answers every request with this status.
    Fails(u16),
}

impl LfsServer {
    pub(crate) fn at(origin: String) -> Self {
        Self { origin, state: Arc::default() }
    }

    /// From now on, it behaves like this.
    pub fn behave(&self, behaves: LfsBehaviour) {
        self.state(|state| state.behaves = behaves);
    }

    /// Adds an object.
    pub fn put(&self, id: &str, content: &[u8]) {
        self.state(|state| state.objects.insert(id.to_owned(), content.to_vec()));
    }

    /// An object, if it is there.
    pub fn object(&self, id: &str) -> Option<Vec<u8>> {
        self.state(|state| state.objects.get(id).cloned())
    }

    /// Forgets an object.
    pub fn forget(&self, id: &str) {
        self.state(|state| state.objects.remove(id));
    }

    /// The ids of all uploads, in their order.
    pub fn uploads(&self) -> Vec<String> {
        self.state(|state| state.uploads.clone())
    }

    /// The branches that requests for uploads have named, in their order.
    pub fn branches(&self) -> Vec<String> {
        self.state(|state| state.branches.clone())
    }

    fn state<T>(&self, use_it: impl FnOnce(&mut State) -> T) -> T {
        use_it(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn answer(&self, request: &Request, stream: &mut (impl Read + Write)) -> std::io::Result<()> {
        let behaves = self.state(|state| state.behaves.clone());
        if let LfsBehaviour::Fails(status) = behaves {
            return reply(stream, status, b"{\"message\":\"out of order\"}");
        }
        let (repository, rest) = request.path.split_once("/info/lfs/").unwrap_or_default();
        match (request.method.as_str(), rest.split_once('/')) {
            ("POST", Some(("objects", "batch"))) => {
                let answer = self.batch(repository, &request.body, &behaves);
                reply(stream, 200, answer.to_string().as_bytes())
            }
            ("GET", Some(("storage", id))) => match (self.object(id), behaves) {
                (None, _) => reply(stream, 404, b"{\"message\":\"no such object\"}"),
                (Some(_), LfsBehaviour::Redirects(to)) => {
                    let to = format!("{to}{}", request.path);
                    write!(
                        stream,
                        "HTTP/1.1 307 -\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                }
                (Some(content), LfsBehaviour::WrongBytes) => reply(stream, 200, &vec![b'x'; content.len()]),
                (Some(content), LfsBehaviour::TooShort) => reply(stream, 200, &content[..content.len() / 2]),
                (Some(_), LfsBehaviour::Endless) => {
                    write!(stream, "HTTP/1.1 200 -\r\nConnection: close\r\n\r\n")?;
                    loop {
                        stream.write_all(&[b'x'; 4096])?;
                    }
                }
                (Some(content), _) => reply(stream, 200, &content),
            },
            ("PUT", Some(("storage", id))) => {
                if let LfsBehaviour::Refuses(words) = behaves {
                    return reply(stream, 422, json!({ "message": words }).to_string().as_bytes());
                }
                self.state(|state| {
                    state.objects.insert(id.to_owned(), request.body.clone());
                    state.uploads.push(id.to_owned());
                });
                reply(stream, 200, b"")
            }
            ("POST", Some(("verify", id))) => {
                let wanted: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let size = self.object(id).map(|content| content.len() as u64);
                let is_there = size.is_some() && wanted["size"].as_u64() == size;
                reply(stream, if is_there { 200 } else { 404 }, b"{}")
            }
            _ => reply(stream, 404, b"{\"message\":\"not found\"}"),
        }
    }

    fn batch(&self, repository: &str, body: &[u8], behaves: &LfsBehaviour) -> Value {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let origin = match behaves {
            LfsBehaviour::Elsewhere(origin) => origin.clone(),
            _ => self.origin.clone(),
        };
        let is_upload = request["operation"] == "upload";
        if let (true, Some(branch)) = (is_upload, request["ref"]["name"].as_str()) {
            self.state(|state| state.branches.push(branch.to_owned()));
        }
        let found = request["objects"].as_array().cloned().unwrap_or_default().into_iter().map(|object| {
            let id = object["oid"].as_str().unwrap_or_default();
            let base = format!("{origin}{repository}/info/lfs");
            let action = |name: &str| json!({ "href": format!("{base}/{name}/{id}?signed=yes") });
            match (is_upload, self.object(id).is_some()) {
                (true, true) => json!({ "oid": id, "size": object["size"] }),
                (true, false) => json!({ "oid": id, "size": object["size"],
                    "actions": { "upload": action("storage"), "verify": action("verify") } }),
                (false, true) => {
                    json!({ "oid": id, "size": object["size"], "actions": { "download": action("storage") } })
                }
                (false, false) => json!({ "oid": id, "size": object["size"],
                    "error": { "code": 404, "message": "no such object" } }),
            }
        });
        json!({ "transfer": "basic", "objects": found.collect::<Vec<_>>() })
    }
}

fn reply(stream: &mut impl Write, status: u16, body: &[u8]) -> std::io::Result<()> {
    let size = body.len();
    let kind = "application/vnd.git-lfs+json";
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
