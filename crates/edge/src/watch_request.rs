//! One watch as the caller asks for it, checked as far as the edge can.

use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Code, Error, Result};
use foundry_proto::edge::v1::Subscription;
use foundry_proto::options::v1::Access;
use foundry_proto::watch::v1::WatchOptions;
use foundry_server::methods;
use foundry_watch::parse_heartbeat;
use prost::Message as _;

use crate::host::Routes;

/// Most bytes of one watch's request.
pub(crate) const MAX_REQUEST_BYTES: usize = 4 * 1024;

/// A rpc that the edge may watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Watchable {
    /// Its path.
    pub(crate) path: &'static str,
    /// The service that owns it: `task`.
    pub(crate) service: &'static str,
}

impl Watchable {
    /// Its name alone: `WatchTask`.
    pub(crate) fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    /// The rpc at this path, if it is a watch that users may open.
    ///
    /// # Errors
    /// `UNIMPLEMENTED` for what nobody serves, `INVALID_ARGUMENT` for what is no watch.
    pub(crate) fn find(path: &str, routes: &dyn Routes) -> Result<Self> {
        let (service, access) = routes.owner_of(path)?;
        let no_watch = || {
            let text = "is not a server-streaming `Watch*` rpc that users may call";
            Error::invalid_field("subscriptions.method", text)
        };
        let (path, kind) = methods::method(path).ok_or_else(no_watch)?;
        let found = Self { path, service };
        let streams = kind.server_streaming && !kind.client_streaming;
        let for_users = matches!(access, Access::User | Access::Member);
        if streams && for_users && found.name().starts_with("Watch") { Ok(found) } else { Err(no_watch()) }
    }
}

/// One watch of a stream.
#[derive(Clone, Debug)]
pub(crate) struct WatchRequest {
    /// Its number on the stream.
    pub(crate) sub_id: u32,
    /// The rpc.
    pub(crate) method: Watchable,
    /// The encoded request as it came, for the owner to judge.
    pub(crate) request: Bytes,
    /// Where and how it starts.
    pub(crate) options: WatchOptions,
    /// How often it hears where it is.
    pub(crate) heartbeat: Duration,
}

/// Every watch request has its options there.
#[derive(Clone, PartialEq, prost::Message)]
struct AnyWatchRequest {
    #[prost(message, optional, tag = "1")]
    options: Option<WatchOptions>,
}

impl WatchRequest {
    /// Reads a watch of a request.
    ///
    /// # Errors
    /// What ends this watch alone: an unknown method or one that is no watch, bytes that are no request, a heartbeat
    /// that is not 5 to 30 s.
    pub(crate) fn parse(subscription: Subscription, routes: &dyn Routes) -> Result<Self> {
        let Subscription { sub_id, method, request } = subscription;
        let method = Watchable::find(&method, routes)?;
        let any = AnyWatchRequest::decode(request.clone()).map_err(|e| {
            Error::new(Code::InvalidArgument, "MALFORMED_MESSAGE", format!("invalid watch request: {e}"))
        })?;
        let options = any.options.unwrap_or_default();
        let heartbeat = parse_heartbeat(options.heartbeat, "options.heartbeat")?;
        Ok(Self { sub_id, method, request, options, heartbeat })
    }
}

/// An owner's request for this view with these options: a message's fields may follow each other in any order.
pub(crate) fn with_options(request: &Bytes, options: WatchOptions) -> Bytes {
    let options = AnyWatchRequest { options: Some(options) }.encode_to_vec();
    [request, &options[..]].concat().into()
}

#[cfg(test)]
mod tests {
    use foundry_proto::task::v1::WatchTaskRequest;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn options_are_put_into_a_request_whose_kind_is_unknown() {
        let canonical = WatchTaskRequest { task_id: "task_1".into(), ..Default::default() }.encode_to_vec();
        let options = WatchOptions { resume_token: "t".into(), after_rev: 7, heartbeat: None };
        let request = with_options(&canonical.into(), options.clone());
        let decoded = WatchTaskRequest::decode(request).unwrap();
        assert_eq!((decoded.task_id.as_str(), decoded.options), ("task_1", Some(options)));
    }

    #[test]
    fn every_watch_has_its_options_in_the_first_field() {
        let set = FileDescriptorSet::decode(foundry_proto::FILE_DESCRIPTOR_SET).unwrap();
        let messages: Vec<_> = set
            .file
            .iter()
            .flat_map(|f| f.message_type.iter().map(move |m| (format!(".{}.{}", f.package(), m.name()), m)))
            .collect();
        let methods = set.file.iter().flat_map(|f| &f.service).flat_map(|s| &s.method);
        let watches: Vec<_> = methods
            .filter(|m| m.server_streaming() && m.name().len() > 5 && m.name().starts_with("Watch"))
            .collect();
        assert!(watches.len() >= 8, "{}", watches.len());
        for watch in watches {
            let (_, request) = messages.iter().find(|(name, _)| name == watch.input_type()).unwrap();
            let first = request.field.iter().find(|f| f.number() == 1).unwrap();
            assert_eq!(first.type_name(), ".foundry.watch.v1.WatchOptions", "{}", watch.name());
        }
    }
}
