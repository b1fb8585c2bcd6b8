//! The gRPC service: one line per method.

use std::net::SocketAddr;
use std::sync::Arc;

use foundry_authn::{Caller, Client, SessionCookie};
use foundry_core::Error;
use foundry_proto::auth::v1::auth_service_server::AuthService;
use foundry_proto::auth::v1::{
    CompleteSignInRequest, CompleteSignInResponse, CreateAccessTokenRequest, CreateAccessTokenResponse,
    CreateOrganizationRequest, CreateOrganizationResponse, ExchangeTokenRequest, ExchangeTokenResponse,
    GetAppShellRequest, GetAppShellResponse, GetSigningKeysRequest, GetSigningKeysResponse, GetUserRequest,
    GetUserResponse, ListAccessTokensRequest, ListAccessTokensResponse, ListMembersRequest,
    ListMembersResponse, ListOrganizationsRequest, ListOrganizationsResponse, RemoveMemberRequest,
    RemoveMemberResponse, RevokeAccessTokenRequest, RevokeAccessTokenResponse, SelectOrganizationRequest,
    SelectOrganizationResponse, SetMemberRequest, SetMemberResponse, SignOutRequest, SignOutResponse,
    WatchAppShellRequest, WatchRevocationsRequest,
};
use foundry_proto::watch::v1::watch_authorization_service_server::WatchAuthorizationService;
use foundry_proto::watch::v1::{AuthorizeWatchRequest, AuthorizeWatchResponse};
use foundry_server::PeerAddress;
use foundry_watch::FrameStream;
use tonic::{Request, Response, Status};

use crate::auth::Auth;
use crate::ops;

/// The service over its shared state.
#[derive(Clone)]
pub(crate) struct Rpc(pub(crate) Arc<Auth>);

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T, Error>) -> Answer<T> {
    result.map(Response::new).map_err(Error::into_status)
}

/// Where the client is: by the socket, or by the gateway's word.
fn client<T>(request: &Request<T>) -> Client {
    let socket: Option<SocketAddr> = request.extensions().get::<PeerAddress>().map(|p| p.0);
    Client::of(request, socket)
}

#[tonic::async_trait]
impl AuthService for Rpc {
    async fn complete_sign_in(&self, r: Request<CompleteSignInRequest>) -> Answer<CompleteSignInResponse> {
        let signed_in = ops::complete_sign_in::run(&self.0, client(&r), r.into_inner()).await;
        let (response, cookie) = signed_in.map_err(Error::into_status)?;
        let mut answer = Response::new(response);
        if let Some(cookie) = cookie {
            cookie.set(answer.metadata_mut())?;
        }
        Ok(answer)
    }

    async fn exchange_token(&self, r: Request<ExchangeTokenRequest>) -> Answer<ExchangeTokenResponse> {
        answer(ops::exchange_token::run(&self.0, r.into_inner()).await)
    }

    async fn get_signing_keys(&self, _: Request<GetSigningKeysRequest>) -> Answer<GetSigningKeysResponse> {
        answer(ops::get_signing_keys::run(&self.0).await)
    }

    type WatchRevocationsStream = FrameStream;

    async fn watch_revocations(&self, r: Request<WatchRevocationsRequest>) -> Answer<FrameStream> {
        answer(ops::watch_revocations::run(&self.0, Caller::of(&r)?, r.into_inner()))
    }

    async fn get_user(&self, r: Request<GetUserRequest>) -> Answer<GetUserResponse> {
        answer(ops::get_user::run(&self.0, &Caller::of(&r)?).await)
    }

    async fn create_organization(
        &self,
        r: Request<CreateOrganizationRequest>,
    ) -> Answer<CreateOrganizationResponse> {
        answer(ops::create_organization::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn list_organizations(
        &self,
        r: Request<ListOrganizationsRequest>,
    ) -> Answer<ListOrganizationsResponse> {
        answer(ops::list_organizations::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn list_members(&self, r: Request<ListMembersRequest>) -> Answer<ListMembersResponse> {
        answer(ops::list_members::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn set_member(&self, r: Request<SetMemberRequest>) -> Answer<SetMemberResponse> {
        answer(ops::set_member::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn remove_member(&self, r: Request<RemoveMemberRequest>) -> Answer<RemoveMemberResponse> {
        answer(ops::remove_member::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn create_access_token(
        &self,
        r: Request<CreateAccessTokenRequest>,
    ) -> Answer<CreateAccessTokenResponse> {
        answer(ops::create_access_token::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn list_access_tokens(
        &self,
        r: Request<ListAccessTokensRequest>,
    ) -> Answer<ListAccessTokensResponse> {
        answer(ops::list_access_tokens::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn revoke_access_token(
        &self,
        r: Request<RevokeAccessTokenRequest>,
    ) -> Answer<RevokeAccessTokenResponse> {
        answer(ops::revoke_access_token::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }

    async fn sign_out(&self, r: Request<SignOutRequest>) -> Answer<SignOutResponse> {
        let mut answer = answer(ops::sign_out::run(&self.0, &Caller::of(&r)?).await)?;
        SessionCookie::clear(answer.metadata_mut());
        Ok(answer)
    }

    async fn get_app_shell(&self, r: Request<GetAppShellRequest>) -> Answer<GetAppShellResponse> {
        answer(ops::get_app_shell::run(&self.0, &Caller::of(&r)?).await)
    }

    type WatchAppShellStream = FrameStream;

    async fn watch_app_shell(&self, r: Request<WatchAppShellRequest>) -> Answer<FrameStream> {
        answer(ops::watch_app_shell::run(&self.0, Caller::of(&r)?, r.into_inner()).await)
    }

    async fn select_organization(
        &self,
        r: Request<SelectOrganizationRequest>,
    ) -> Answer<SelectOrganizationResponse> {
        answer(ops::select_organization::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }
}

#[tonic::async_trait]
impl WatchAuthorizationService for Rpc {
    async fn authorize_watch(&self, r: Request<AuthorizeWatchRequest>) -> Answer<AuthorizeWatchResponse> {
        answer(ops::authorize_watch::run(&self.0, &Caller::of(&r)?, r.into_inner()).await)
    }
}
