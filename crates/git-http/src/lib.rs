//! git's smart protocol over HTTP, for reading only: what is read of a request of `git fetch`, and what git is sent. Who
//! may read which repository is up to the [`Source`] of a request.

mod answer;
mod body;

use async_trait::async_trait;
use bytes::Bytes;
use foundry_core::{Code, Error};
use foundry_proto::repo::v1::{ServeFetchRequest, ServeFetchResponse};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as HttpBody;
use tonic::{Status, Streaming};

pub use answer::{absent, refusal};
pub use body::LargeBodies;

use answer::pieces;
use body::MAX_BODY;

/// An error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Longest `Git-Protocol` header that is passed on.
const MAX_PROTOCOL: usize = 256;

/// The last part of an address, after that of the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `info/refs`, the first request of a fetch or a push.
    InfoRefs,
    /// `git-upload-pack`, any later request of a fetch.
    UploadPack,
    /// `git-receive-pack`, any later request of a push.
    ReceivePack,
}

impl Endpoint {
    /// Its place in an address.
    pub fn path(self) -> &'static str {
        match self {
            Self::InfoRefs => "info/refs",
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    /// Splits `ORGANIZATION/REPOSITORY/ENDPOINT`; none for any other path. Nothing is decoded or normalized.
    pub fn split(path: &str) -> Option<(&str, &str, Self)> {
        let (organization, rest) = path.split_once('/')?;
        let (repository, rest) = rest.split_once('/')?;
        let all = [Self::InfoRefs, Self::UploadPack, Self::ReceivePack];
        let endpoint = all.into_iter().find(|endpoint| endpoint.path() == rest)?;
        Some((organization, repository, endpoint))
    }
}

/// Where a request is read from, and whether its sender may.
#[async_trait]
pub trait Source: Sync {
    /// What the sender may read. Called before any byte of a body is read.
    ///
    /// # Errors
    /// When the sender is unknown, or the repository is not there or not theirs.
    async fn find(&self) -> Result<ServeFetchRequest, Status>;

    /// The pieces of the response.
    ///
    /// # Errors
    /// When it cannot be served.
    async fn serve(&self, request: ServeFetchRequest) -> Result<Streaming<ServeFetchResponse>, Status>;
}

/// Where a request is: git shows its user the text of a refused list, and of later requests only an error line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The list of refs.
    Listing,
    /// What follows it.
    Fetching,
}

/// Answers one request. Dropping the future, or the body of the response, ends the fetch.
pub async fn answer<B>(
    endpoint: Endpoint,
    request: Request<B>,
    large: &LargeBodies,
    source: &impl Source,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let query = request.uri().query().unwrap_or_default();
    let asks = |service: &str| query.split('&').any(|part| part.strip_prefix("service=") == Some(service));
    match endpoint {
        Endpoint::ReceivePack => push(),
        Endpoint::InfoRefs if asks("git-receive-pack") => push(),
        Endpoint::InfoRefs if request.method() == Method::GET && asks("git-upload-pack") => {
            advertise(request.headers(), source).await.unwrap_or_else(|e| refusal(&e, Step::Listing))
        }
        Endpoint::UploadPack if request.method() == Method::POST => fetch(request, large, source).await,
        Endpoint::InfoRefs => {
            malformed("this address serves git's smart protocol only; fetch from it with git 2 or newer")
        }
        Endpoint::UploadPack => malformed("fetch requests must use POST"),
    }
}

/// The first request of a fetch: what there is.
async fn advertise(headers: &HeaderMap, source: &impl Source) -> Result<Response<Body>, Status> {
    let protocol = protocol(headers);
    let is_v2 = is_v2(&protocol);
    let found = source.find().await?;
    let served = source.serve(ServeFetchRequest { advertise: true, protocol, ..found }).await?;
    Ok(pieces(served, true, is_v2))
}

/// Any later request of a fetch.
async fn fetch<B>(request: Request<B>, large: &LargeBodies, source: &impl Source) -> Response<Body>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let protocol = protocol(request.headers());
    let found = match source.find().await {
        Ok(found) => found,
        Err(status) => return refusal(&status, Step::Listing),
    };
    let served = async {
        let is_v2 = is_v2(&protocol);
        let owner = format!("{}/{}", found.organization_id, found.task_id);
        let body = body::read(request, &owner, large, MAX_BODY).await?;
        let served = source.serve(ServeFetchRequest { body, protocol, ..found }).await?;
        Ok::<_, Status>(pieces(served, false, is_v2))
    };
    served.await.unwrap_or_else(|status| refusal(&status, Step::Fetching))
}

fn protocol(headers: &HeaderMap) -> String {
    let text = headers.get("git-protocol").and_then(|value| value.to_str().ok());
    text.filter(|text| text.len() <= MAX_PROTOCOL).unwrap_or_default().to_owned()
}

fn is_v2(protocol: &str) -> bool {
    protocol.split(':').any(|part| part == "version=2")
}

fn malformed(text: &str) -> Response<Body> {
    refusal(&Error::new(Code::InvalidArgument, "FETCH_MALFORMED", text).into(), Step::Listing)
}

fn push() -> Response<Body> {
    let text = "Foundry serves fetches only, nothing can be pushed to it";
    let error = Error::new(Code::PermissionDenied, "GIT_READ_ONLY", text).next_action(
        "publish the work of a task with `foundry task publish TASK` or on its page; an agent leaves its work in its \
         tree, from where it is taken after each turn",
    );
    refusal(&error.into(), Step::Listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_organization_a_repository_and_what_git_asks_for() {
        assert_eq!(Endpoint::split("o/r/info/refs"), Some(("o", "r", Endpoint::InfoRefs)));
        assert_eq!(Endpoint::split("o/r/git-upload-pack"), Some(("o", "r", Endpoint::UploadPack)));
        for other in ["o/r", "o/r/", "o/r/HEAD", "o/info/refs", "o/r/x/info/refs", "o/r/info/refs/", ""] {
            assert_eq!(Endpoint::split(other), None, "{other}");
        }
    }
}
