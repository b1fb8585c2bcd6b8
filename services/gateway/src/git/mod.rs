//! `git fetch` over HTTP: `/git/<organization>/<repository>`, git's smart protocol, for reading only.
//!
//! Every request becomes calls of the mesh with the caller's own token, through the same admission and limits as those of
//! any other client: first who the caller is and whether the organization is theirs, then the fetch itself. Cookies do not
//! count here.

mod answer;
mod request;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use axum::routing::any;
use foundry_core::{Code, Error};
use foundry_proto::auth::v1::GetUserRequest;
use foundry_proto::auth::v1::auth_service_client::AuthServiceClient;
use foundry_proto::repo::v1::ServeFetchRequest;
use foundry_proto::repo::v1::repo_service_client::RepoServiceClient;
use foundry_server::Routed;
use http::Method;
use tokio::sync::Semaphore;
use tonic::Status;

use answer::{Step, refusal};
use request::{Asker, MAX_BODY};

/// Large request bodies at a time; small ones are not counted.
const LARGE_BODIES: usize = 8;

/// What the routes share.
#[derive(Clone)]
struct Door {
    /// The gateway's own rpcs and those of the services, as a client reaches them.
    mesh: Routed,
    large_bodies: Arc<Semaphore>,
}

/// The repository in an address.
#[derive(serde::Deserialize)]
struct Named {
    organization: String,
    repository: String,
}

/// The routes below `/git/`.
pub(crate) fn routes(mesh: Routed) -> Router {
    Router::new()
        .route("/git/{organization}/{repository}/info/refs", any(advertise))
        .route("/git/{organization}/{repository}/git-upload-pack", any(fetch))
        .route("/git/{organization}/{repository}/git-receive-pack", any(|| async { push() }))
        .with_state(Door { mesh, large_bodies: Arc::new(Semaphore::new(LARGE_BODIES)) })
}

/// The first request of a fetch: what there is.
async fn advertise(State(door): State<Door>, Path(named): Path<Named>, request: Request) -> Response {
    let service = request.uri().query().unwrap_or_default();
    if service.split('&').any(|part| part == "service=git-receive-pack") {
        return push();
    }
    if request.method() != Method::GET || !service.split('&').any(|part| part == "service=git-upload-pack") {
        let text = "this address serves git's smart protocol only; fetch from it with git 2 or newer";
        return refusal(&Error::new(Code::InvalidArgument, "FETCH_MALFORMED", text).into(), Step::Listing);
    }
    let asker = Asker::of(&request);
    let served = async {
        let asker = asker?;
        let asked = door.ask(&asker, named).await?;
        door.serve(&asker, ServeFetchRequest { advertise: true, ..asked }).await
    };
    served.await.unwrap_or_else(|status| refusal(&status, Step::Listing))
}

/// Any later request of a fetch.
async fn fetch(State(door): State<Door>, Path(named): Path<Named>, request: Request) -> Response {
    if request.method() != Method::POST {
        let text = "fetch requests must use POST";
        return refusal(&Error::new(Code::InvalidArgument, "FETCH_MALFORMED", text).into(), Step::Listing);
    }
    let asker = Asker::of(&request);
    let asked = async {
        let asker = asker?;
        let asked = door.ask(&asker, named).await?;
        Ok::<_, Status>((asker, asked))
    };
    // No byte of the body is read before the caller is known.
    let (asker, asked) = match asked.await {
        Ok(known) => known,
        Err(status) => return refusal(&status, Step::Listing),
    };
    let served = async {
        let body = request::body(request, &door.large_bodies, MAX_BODY).await?;
        door.serve(&asker, ServeFetchRequest { body, ..asked }).await
    };
    served.await.unwrap_or_else(|status| refusal(&status, Step::Fetching))
}

fn push() -> Response {
    let text = "Foundry serves fetches only, nothing can be pushed to it";
    let error = Error::new(Code::PermissionDenied, "GIT_READ_ONLY", text).next_action(
        "to publish the work of a task, fetch it into a clone of the repository (`foundry task fetch TASK`) and push the \
         branch to the repository's own remote; an agent leaves its work in its tree, from where it is taken after each turn",
    );
    refusal(&error.into(), Step::Listing)
}

impl Door {
    /// Who asks, and for which repository.
    async fn ask(&self, asker: &Asker, named: Named) -> Result<ServeFetchRequest, Status> {
        let mut auth = AuthServiceClient::new(self.mesh.clone());
        let user = auth.get_user(asker.asking(GetUserRequest {})).await?.into_inner();
        let name = named.organization;
        let theirs = |m: &&foundry_proto::auth::v1::Membership| {
            m.organization_id == name || m.organization_name == name
        };
        let membership = user.memberships.iter().find(theirs).ok_or_else(answer::absent)?;
        Ok(ServeFetchRequest {
            organization_id: membership.organization_id.clone(),
            repository: named.repository.strip_suffix(".git").unwrap_or(&named.repository).to_owned(),
            protocol: asker.protocol.clone(),
            ..ServeFetchRequest::default()
        })
    }

    async fn serve(&self, asker: &Asker, request: ServeFetchRequest) -> Result<Response, Status> {
        let advertise = request.advertise;
        let mut repo = RepoServiceClient::new(self.mesh.clone());
        let pieces = repo.serve_fetch(asker.asking(request)).await?.into_inner();
        Ok(answer::pieces(pieces, advertise, asker.is_v2()))
    }
}
