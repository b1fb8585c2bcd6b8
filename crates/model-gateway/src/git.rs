//! `git fetch` inside a sandbox: `/git/ORGANIZATION/REPOSITORY` is the repository of its task, and no other.

use async_trait::async_trait;
use bytes::Bytes;
use foundry_core::Error;
use foundry_git_http::{Endpoint, Source, Step, absent, answer, refusal};
use foundry_proto::repo::v1::{ServeFetchRequest, ServeFetchResponse};
use http::request::Parts;
use http::{Request, Response};
use http_body::Body as HttpBody;
use tonic::{Status, Streaming};

use crate::access::{OriginAccess, OriginRefused};
use crate::connection_slots;
use crate::gateway::{ACCESS, Gateway};
use crate::proof::SandboxProof;
use crate::upstream;
use crate::{Body, BoxError};

/// A request of git with a sandbox's token.
struct Asked {
    gateway: Gateway,
    parts: Parts,
    organization: String,
    repository: String,
}

impl Gateway {
    /// Answers a request of git.
    pub(crate) async fn git<B>(&self, parts: Parts, body: B) -> Response<Body>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let path = parts.uri.path().strip_prefix("/git/").and_then(Endpoint::split);
        let Some((organization, repository, endpoint)) = path else {
            return refusal(&absent(), Step::Listing);
        };
        let (organization, repository) = (organization.to_owned(), repository.to_owned());
        let asked = Asked { gateway: self.clone(), parts: parts.clone(), organization, repository };
        answer(endpoint, Request::from_parts(parts, body), &self.0.fetches, &asked).await
    }
}

impl Asked {
    async fn access(&self) -> Result<OriginAccess, OriginRefused> {
        let headers = &self.parts.headers;
        let token = upstream::token(headers, None).0.ok_or(OriginRefused::Token)?;
        let proof = SandboxProof::from_headers(headers).map_err(|_| OriginRefused::Token)?;
        let asked = self.gateway.0.ledger.origin(&token, proof.as_ref());
        match tokio::time::timeout(ACCESS, asked).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(OriginRefused::Unavailable("the token was not checked within ten seconds".to_owned()))
            }
        }
    }
}

#[async_trait]
impl Source for Asked {
    async fn find(&self) -> Result<ServeFetchRequest, Status> {
        let access = self.access().await.map_err(refused)?;
        connection_slots::take(&self.parts, &access.sandbox).map_err(|problem| busy(&problem.words))?;
        if (&access.organization, &access.repository) != (&self.organization, &self.repository) {
            return Err(absent());
        }
        let (organization_id, repository) = (access.organization, access.repository);
        let task_id = access.task;
        Ok(ServeFetchRequest { organization_id, repository, task_id, ..ServeFetchRequest::default() })
    }

    async fn serve(&self, request: ServeFetchRequest) -> Result<Streaming<ServeFetchResponse>, Status> {
        self.gateway.0.ledger.fetch(request).await
    }
}

fn refused(refused: OriginRefused) -> Status {
    match refused {
        OriginRefused::Token => {
            let text = "the token does not belong to this sandbox, or the sandbox has ended";
            // Not UNAUTHENTICATED: git would ask its user for a name and a password, and show no words.
            Error::new(foundry_core::Code::PermissionDenied, "GIT_TOKEN_REFUSED", text).into_status()
        }
        OriginRefused::Unavailable(why) => {
            tracing::warn!(%why, "the token of a fetch cannot be checked");
            busy("its token cannot be checked")
        }
    }
}

fn busy(words: &str) -> Status {
    Error::unavailable("FETCH_BUSY", words, std::time::Duration::from_secs(2)).into_status()
}
