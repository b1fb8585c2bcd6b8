//! Answers to `AuthorizeWatch`: whether a caller may see a watch, and with which request the edge subscribes to it.
//!
//! Each service matches the method, decodes the request with [`asked`], makes its view exactly as the
//! rpc itself would, and answers with [`Granted::answer`].

use foundry_core::{Error, OrganizationId, Result};
use foundry_proto::watch::v1::{AuthorizeWatchResponse, WatchOptions};
use prost::Message;

use crate::watcher::Start;
use crate::{TableView, View};

/// A watch that its caller may see: the view that the rpc streams and that `AuthorizeWatch` describes.
#[derive(Clone, Debug)]
pub struct Granted<V = TableView> {
    /// The view that the watch streams.
    pub view: V,
    /// The organization whose membership permits it; none = the view belongs to the caller.
    pub organization: Option<OrganizationId>,
}

impl<V: View> Granted<V> {
    /// A watch that is permitted by a membership.
    pub fn of_member(view: V, organization: &OrganizationId) -> Self {
        Self { view, organization: Some(organization.clone()) }
    }

    /// A watch of the caller's own data.
    pub fn own(view: V) -> Self {
        Self { view, organization: None }
    }

    /// The answer to `AuthorizeWatch`. `request` is the one to send for this caller: without options, and with the
    /// user's id where the view is a user's.
    pub fn answer(&self, request: &impl Message) -> AuthorizeWatchResponse {
        AuthorizeWatchResponse {
            view: self.view.key(),
            request: request.encode_to_vec().into(),
            organization_id: self.organization.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// The encoded request of a watch, decoded and without its options, which are checked as in the rpc. Unknown fields are
/// dropped: they would make equal watches differ.
///
/// # Errors
/// `INVALID_ARGUMENT` for an invalid request, or a heartbeat that is not 5 to 30 s.
pub fn asked<R: Message + Default>(
    encoded: &[u8],
    take_options: impl FnOnce(&mut R) -> Option<WatchOptions>,
) -> Result<R> {
    let mut request = R::decode(encoded)
        .map_err(|e| Error::invalid_field("request", "is not the request of this method").caused_by(e))?;
    Start::parse(take_options(&mut request).unwrap_or_default())?;
    Ok(request)
}

/// The answer for a method that is not a watch of the service, or not one that users may open.
pub fn unknown_watch() -> Error {
    Error::invalid_field("method", "is not a watch method of this service that users may call")
        .next_action("call the service that owns the watch, with the full path of its rpc")
}

#[cfg(test)]
mod tests {
    use foundry_core::{Code, Env};
    use foundry_proto::task::v1::WatchSessionRequest;
    use foundry_store::Scope;

    use super::*;
    use crate::Fingerprint;

    fn of(scope: &str, filter: &str) -> TableView {
        let fingerprint = Fingerprint::new("WatchX", 1).filter("x", filter);
        TableView::new("WatchX", Scope::other("x", scope), fingerprint)
    }

    #[test]
    fn equal_views_have_equal_keys_and_others_have_not() {
        assert_eq!(of("a", "1").key(), of("a", "1").key());
        assert_ne!(of("a", "1").key(), of("a", "2").key());
        assert_ne!(of("a", "1").key(), of("b", "1").key());
    }

    #[test]
    fn the_canonical_request_has_no_options_and_nothing_unknown() {
        let clean = WatchSessionRequest { session_id: "s".into(), after_offset: 3, options: None };
        let options = WatchOptions { resume_token: "t".into(), after_rev: 9, heartbeat: None };
        let mut encoded = WatchSessionRequest { options: Some(options), ..clean.clone() }.encode_to_vec();
        // Field 100, which exists in no version of the request: a varint.
        encoded.extend([0xa0, 0x06, 0x01]);
        let request: WatchSessionRequest =
            asked(&encoded, |r: &mut WatchSessionRequest| r.options.take()).unwrap();
        let organization = OrganizationId::generate(&Env::system());
        let answer = Granted::of_member(of("a", "1"), &organization).answer(&request);
        assert_eq!(answer.request, clean.encode_to_vec());
        assert_eq!(answer.organization_id, organization.as_str());
        assert_eq!(Granted::own(of("a", "1")).answer(&request).organization_id, "");
    }

    #[test]
    fn refuses_what_the_rpc_would_refuse_before_it_looks_at_the_entity() {
        let take = |r: &mut WatchSessionRequest| r.options.take();
        let fast = WatchOptions {
            heartbeat: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            ..WatchOptions::default()
        };
        let fast = WatchSessionRequest { options: Some(fast), ..Default::default() }.encode_to_vec();
        for (bad, field) in [(&fast[..], "options.heartbeat"), (b"\xff\xff\xff", "request")] {
            let e = asked(bad, take).unwrap_err();
            assert_eq!((e.code(), e.violations()[0].field.as_str()), (Code::InvalidArgument, field));
        }
        assert_eq!(unknown_watch().code(), Code::InvalidArgument);
    }
}
