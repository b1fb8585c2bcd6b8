//! The rpcs of a service as one table.

use foundry_authn::{Authenticator, Caller};
use foundry_core::{Error, Result};
use foundry_proto::Frame;
use foundry_proto::watch::v1::WatchOptions;
use foundry_server::{Unframed, framed};
use foundry_watch_hub::{Granted, Hub, View};
use tonic::{Response, Status};

/// What a watch's handler returns; the service's stack sends it without a buffer for each stream.
pub type WatchStream = Unframed<Frame>;

/// Implements a gRPC service for a struct, with one line per rpc:
///
/// ```ignore
/// foundry_service::rpcs! {
///     impl repo_service_server::RepoService for Rpc;
///     calls {
///         get_repository: GetRepositoryRequest => GetRepositoryResponse;
///     }
///     watches {
///         watch_repository: WatchRepositoryRequest => WatchRepositoryStream, "WatchRepository";
///     }
/// }
/// ```
///
/// The struct holds the service's context, `Arc<Context>`, in its first field; `ops` and the request types are in
/// scope. A call `x` calls `ops::x::x(&context, &caller, request)`. A watch calls `ops::x::grant(&context, &caller,
/// &mut request)`, which returns what the caller may see, and opens a stream of it; `AuthorizeWatch` answers from the
/// same function, so that both decide alike. What `grant` writes into the request is in the answer. A watch without the
/// name of its rpc is for services only: `AuthorizeWatch` refuses it. Methods of any other form are written under
/// `also`, as in the `impl`.
#[macro_export]
macro_rules! rpcs {
    (
        impl $server:ident::$service:ident for $rpc:ident;
        calls {
            $($name:ident: $request:ty => $response:ty;)*
        }
        $(watches {
            $($watch:ident: $wanted:ty => $stream:ident $(, $method:literal)?;)*
        })?
        $(also { $($also:tt)* })?
    ) => {
        #[::tonic::async_trait]
        impl $server::$service for $rpc {
            $(async fn $name(
                &self,
                request: ::tonic::Request<$request>,
            ) -> ::std::result::Result<::tonic::Response<$response>, ::tonic::Status> {
                let caller = ::foundry_authn::Caller::of(&request)?;
                // Boxed, as the trait boxes everything it awaits: some decisions are large.
                $crate::answer(Box::pin(ops::$name::$name(&self.0, &caller, request.into_inner())).await)
            })*
            $($(
                type $stream = $crate::WatchStream;

                async fn $watch(
                    &self,
                    request: ::tonic::Request<$wanted>,
                ) -> ::std::result::Result<::tonic::Response<Self::$stream>, ::tonic::Status> {
                    let caller = ::foundry_authn::Caller::of(&request)?;
                    let mut wanted = request.into_inner();
                    let granted = ops::$watch::grant(&self.0, &caller, &mut wanted).await?;
                    let options = wanted.options.take();
                    $crate::open_watch(&self.0.hub, &self.0.authenticator, granted, options, caller)
                }
            )*)?
            $($($also)*)?
        }
        $(
            #[::tonic::async_trait]
            impl ::foundry_proto::watch::v1::watch_authorization_service_server::WatchAuthorizationService for $rpc {
                async fn authorize_watch(
                    &self,
                    request: ::tonic::Request<::foundry_proto::watch::v1::AuthorizeWatchRequest>,
                ) -> ::std::result::Result<
                    ::tonic::Response<::foundry_proto::watch::v1::AuthorizeWatchResponse>,
                    ::tonic::Status,
                > {
                    let caller = ::foundry_authn::Caller::of(&request)?;
                    let asked = request.into_inner();
                    match $crate::method_of(&asked.method, $server::SERVICE_NAME) {
                        $($(Some($method) => {
                            let mut wanted =
                                ::foundry_watch_hub::asked(&asked.request, |r: &mut $wanted| r.options.take())?;
                            let granted = ops::$watch::grant(&self.0, &caller, &mut wanted).await?;
                            Ok(::tonic::Response::new(granted.answer(&wanted)))
                        })?)*
                        _ => Err(::foundry_watch_hub::unknown_watch().into()),
                    }
                }
            }
        )?
    };
}

/// Converts the result of an rpc.
///
/// # Errors
/// The error as a status.
pub fn answer<T>(result: Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(Error::into_status)
}

/// Opens a stream of what was granted, which ends when the caller may no longer see it.
///
/// # Errors
/// Those of [`Hub::watch`].
pub fn open_watch(
    hub: &Hub,
    authenticator: &Authenticator,
    granted: Granted<impl View>,
    options: Option<WatchOptions>,
    caller: Caller,
) -> Result<Response<WatchStream>, Status> {
    let frames = hub.watch(granted.view, options, authenticator.stream_pass(caller, granted.organization))?;
    Ok(framed(frames))
}

/// The name of a method of this service, from the full path of its rpc.
pub fn method_of<'a>(path: &'a str, service: &str) -> Option<&'a str> {
    path.strip_prefix('/')?.strip_prefix(service)?.strip_prefix('/')
}
