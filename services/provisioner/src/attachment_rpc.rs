//! The gRPC face of stored files: one line per method.

use std::sync::Arc;

use foundry_authn::Caller;
use foundry_proto::provisioner::v1 as p;
use foundry_proto::provisioner::v1::attachment_service_server::AttachmentService;
use tonic::{Request, Response, Status};

use crate::ops;
use crate::shared::Shared;

/// `AttachmentService` over gRPC; each rpc calls its op.
pub struct AttachmentRpc(pub Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

macro_rules! methods {
    ($($name:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl AttachmentService for AttachmentRpc {
            $(async fn $name(&self, r: Request<p::$request>) -> Answer<p::$response> {
                let caller = Caller::of(&r)?;
                Ok(Response::new(ops::$name::$name(&self.0, &caller, r.into_inner()).await?))
            })*
        }
    };
}

methods! {
    put_attachment: PutAttachmentRequest => PutAttachmentResponse;
    get_attachment: GetAttachmentRequest => GetAttachmentResponse;
    list_attachments: ListAttachmentsRequest => ListAttachmentsResponse;
    delete_attachment: DeleteAttachmentRequest => DeleteAttachmentResponse;
    hold_attachments: HoldAttachmentsRequest => HoldAttachmentsResponse;
}
