//! Maps the service's rpcs to ops, one line each.

use std::net::SocketAddr;
use std::sync::Arc;

use foundry_authn::{Caller, Client, SessionCookie};
use foundry_core::Error;
use foundry_proto::auth::v1::*;
use foundry_server::PeerAddress;
use tonic::{Request, Response, Status};

use crate::auth::Auth;
use crate::ops;

/// Implements the generated server trait.
#[derive(Clone)]
pub(crate) struct Rpc(pub(crate) Arc<Auth>);

type Answer<T> = Result<Response<T>, Status>;

/// Where the client is: known from the socket, or reported by the gateway.
fn client<T>(request: &Request<T>) -> Client {
    let socket: Option<SocketAddr> = request.extensions().get::<PeerAddress>().map(|p| p.0);
    Client::of(request, socket)
}

foundry_service::rpcs! {
    impl auth_service_server::AuthService for Rpc;
    calls {
        get_user: GetUserRequest => GetUserResponse;
        create_organization: CreateOrganizationRequest => CreateOrganizationResponse;
        list_organizations: ListOrganizationsRequest => ListOrganizationsResponse;
        list_members: ListMembersRequest => ListMembersResponse;
        set_member: SetMemberRequest => SetMemberResponse;
        remove_member: RemoveMemberRequest => RemoveMemberResponse;
        create_access_token: CreateAccessTokenRequest => CreateAccessTokenResponse;
        list_access_tokens: ListAccessTokensRequest => ListAccessTokensResponse;
        revoke_access_token: RevokeAccessTokenRequest => RevokeAccessTokenResponse;
        list_sessions: ListSessionsRequest => ListSessionsResponse;
        revoke_session: RevokeSessionRequest => RevokeSessionResponse;
        get_program_sign_in: GetProgramSignInRequest => GetProgramSignInResponse;
        confirm_program_sign_in: ConfirmProgramSignInRequest => ConfirmProgramSignInResponse;
        deny_program_sign_in: DenyProgramSignInRequest => DenyProgramSignInResponse;
        get_app_shell: GetAppShellRequest => GetAppShellResponse;
        select_organization: SelectOrganizationRequest => SelectOrganizationResponse;
    }
    watches {
        watch_app_shell: WatchAppShellRequest => WatchAppShellStream, "WatchAppShell";
        watch_revocations: WatchRevocationsRequest => WatchRevocationsStream;
    }
    also {
        async fn list_sign_in_ways(&self, _: Request<ListSignInWaysRequest>) -> Answer<ListSignInWaysResponse> {
            foundry_service::answer(ops::list_sign_in_ways::list_sign_in_ways(&self.0).await)
        }

        async fn begin_sign_in(&self, r: Request<BeginSignInRequest>) -> Answer<BeginSignInResponse> {
            foundry_service::answer(ops::begin_sign_in::begin_sign_in(&self.0, r.into_inner()).await)
        }

        async fn receive_sign_in(&self, r: Request<ReceiveSignInRequest>) -> Answer<ReceiveSignInResponse> {
            foundry_service::answer(ops::receive_sign_in::receive_sign_in(&self.0, r.into_inner()).await)
        }

        async fn get_sign_in(&self, r: Request<GetSignInRequest>) -> Answer<GetSignInResponse> {
            foundry_service::answer(ops::get_sign_in::get_sign_in(&self.0, r.into_inner()).await)
        }

        // No caller: users are not authenticated yet.
        async fn complete_sign_in(&self, r: Request<CompleteSignInRequest>) -> Answer<CompleteSignInResponse> {
            let signed_in = ops::complete_sign_in::complete_sign_in(&self.0, client(&r), r.into_inner()).await;
            let (response, cookie) = signed_in.map_err(Error::into_status)?;
            let mut answer = Response::new(response);
            if let Some(cookie) = cookie {
                cookie.set(answer.metadata_mut())?;
            }
            Ok(answer)
        }

        async fn begin_program_sign_in(
            &self,
            r: Request<BeginProgramSignInRequest>,
        ) -> Answer<BeginProgramSignInResponse> {
            let client = client(&r);
            let op = ops::begin_program_sign_in::begin_program_sign_in(&self.0, &client, r.into_inner());
            foundry_service::answer(op.await)
        }

        async fn complete_program_sign_in(
            &self,
            r: Request<CompleteProgramSignInRequest>,
        ) -> Answer<CompleteProgramSignInResponse> {
            let client = client(&r);
            let op = ops::complete_program_sign_in::complete_program_sign_in(&self.0, &client, r.into_inner());
            foundry_service::answer(op.await)
        }

        async fn exchange_token(&self, r: Request<ExchangeTokenRequest>) -> Answer<ExchangeTokenResponse> {
            foundry_service::answer(ops::exchange_token::exchange_token(&self.0, r.into_inner()).await)
        }

        async fn get_signing_keys(&self, _: Request<GetSigningKeysRequest>) -> Answer<GetSigningKeysResponse> {
            foundry_service::answer(ops::get_signing_keys::get_signing_keys(&self.0).await)
        }

        async fn sign_out(&self, r: Request<SignOutRequest>) -> Answer<SignOutResponse> {
            let mut answer = foundry_service::answer(ops::sign_out::sign_out(&self.0, &Caller::of(&r)?).await)?;
            SessionCookie::clear(answer.metadata_mut());
            Ok(answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use foundry_proto::watch::v1::{AuthorizeWatchRequest, WatchOptions};
    use foundry_service::proofs::{
        answers_for_each_watch_that_users_may_open, asking, authorize, refused_field,
    };
    use prost::Message as _;
    use tonic::Code;

    use super::*;
    use crate::testing::Fixture;

    fn watching(request: &WatchAppShellRequest) -> AuthorizeWatchRequest {
        asking(auth_service_server::SERVICE_NAME, "WatchAppShell", request)
    }

    #[tokio::test]
    async fn all_sessions_of_a_user_share_a_view_and_a_token_has_one_of_its_own() {
        let f = Fixture::new().await;
        let rpc = Rpc(Arc::clone(&f.auth));
        let (alice, acme) = f.member("alice", "acme").await;
        let options = Some(WatchOptions { after_rev: 7, ..WatchOptions::default() });
        let plain = watching(&WatchAppShellRequest::default());
        let first = authorize(&rpc, &alice, plain.clone()).await.unwrap();
        let positioned = WatchAppShellRequest { options, ..Default::default() };
        let (again, _) = f.member("alice", "acme").await;
        let second = authorize(&rpc, &again, watching(&positioned)).await.unwrap();
        assert_eq!(first, second, "neither session nor position is part of a view");
        let subscribe = WatchAppShellRequest::decode(first.request).unwrap();
        assert_eq!((subscribe.user_id, subscribe.options), (alice.actor(), None));
        assert_eq!(first.organization_id, "", "it is the user's own");

        let token = f.access_token(&alice, &acme, None).await;
        let program = authorize(&rpc, &f.caller(&token.secret).await.unwrap(), plain.clone()).await.unwrap();
        assert_ne!(program.view, first.view);
        assert_eq!(program.organization_id, acme.as_str());
        let subscribe = WatchAppShellRequest::decode(program.request).unwrap();
        assert_eq!(subscribe.organization_id, acme.as_str(), "the edge must not watch more than it may show");
        let (bob, _) = f.member("bob", "").await;
        assert_ne!(authorize(&rpc, &bob, plain).await.unwrap().view, first.view);
    }

    #[tokio::test]
    async fn refuses_as_the_watch_itself_would_and_what_is_no_watch_here() {
        let f = Fixture::new().await;
        let rpc = Rpc(Arc::clone(&f.auth));
        let (alice, _) = f.member("alice", "").await;
        let (bob, _) = f.member("bob", "").await;
        let foreign = WatchAppShellRequest { user_id: bob.actor(), ..Default::default() };
        let refused = authorize(&rpc, &alice, watching(&foreign)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let service = auth_service_server::SERVICE_NAME;
        answers_for_each_watch_that_users_may_open(&rpc, service, &alice).await;
        let garbage = AuthorizeWatchRequest { request: b"\xff\xff"[..].into(), ..watching(&foreign) };
        assert_eq!(refused_field(&authorize(&rpc, &alice, garbage).await.unwrap_err()), "request");
    }
}
