//! Which service owns a method.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foundry_authn::{Method, MethodPolicies};
use foundry_core::{Code, Error, Result};
use foundry_edge::Routes;
use foundry_proto::options::v1::Access;
use foundry_server::{Kind, Upstream, methods};

/// A method and where it is served.
#[derive(Clone)]
pub(crate) struct Route {
    /// Name of the service, as in its identity: `task`.
    pub(crate) service: &'static str,
    /// The connection to that service.
    pub(crate) upstream: Upstream,
    /// Who may call it at all; the service itself checks again, in more detail.
    pub(crate) access: Access,
    /// Whether it is a unary call or a stream.
    pub(crate) kind: Kind,
    /// Whether it only reads.
    pub(crate) only_reads: bool,
}

/// All methods of the services behind the gateway; cloning shares it.
#[derive(Clone)]
pub(crate) struct RouteTable(Arc<Inner>);

struct Inner {
    by_path: HashMap<String, Route>,
    /// The full gRPC names of the services, and the upstream that serves each.
    services: BTreeMap<String, &'static str>,
}

impl RouteTable {
    /// From the methods in the protos: package `foundry.task.v1` is served by `task`.
    pub(crate) fn new(upstreams: &BTreeMap<&'static str, Upstream>, policies: &MethodPolicies) -> Self {
        let mut inner = Inner { by_path: HashMap::new(), services: BTreeMap::new() };
        for method in policies.methods() {
            let Some((full_name, service, upstream)) = owner(method, upstreams) else { continue };
            inner.services.insert(full_name.to_owned(), service);
            let kind = methods::kind(&method.path);
            let access = method.policy.as_ref().and_then(|p| Access::try_from(p.access).ok());
            let route = Route {
                service,
                upstream: upstream.clone(),
                access: access.unwrap_or_default(),
                kind: if kind.is_stream() { Kind::Stream } else { Kind::Unary },
                only_reads: method.only_reads(),
            };
            inner.by_path.insert(method.path.clone(), route);
        }
        Self(Arc::new(inner))
    }

    /// The route of a request path.
    ///
    /// # Errors
    /// `UNIMPLEMENTED`, naming the unknown service or method.
    pub(crate) fn find(&self, path: &str) -> Result<&Route> {
        if let Some(route) = self.0.by_path.get(path) {
            return Ok(route);
        }
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let error = if self.0.services.contains_key(service) {
            Error::new(Code::Unimplemented, "METHOD_UNKNOWN", format!("{service} has no such method"))
        } else {
            Error::new(Code::Unimplemented, "SERVICE_UNKNOWN", "unknown service")
        };
        Err(error.next_action("list the available services: `grpcurl -plaintext <address> list`"))
    }

    /// The full names of all gRPC services.
    pub(crate) fn services(&self) -> Vec<String> {
        self.0.services.keys().cloned().collect()
    }

    /// The full names of the gRPC services that one upstream serves.
    pub(crate) fn served_by(&self, upstream: &str) -> BTreeSet<String> {
        self.0.services.iter().filter(|(_, by)| **by == upstream).map(|(name, _)| name.clone()).collect()
    }
}

impl Routes for RouteTable {
    fn owner_of(&self, path: &str) -> Result<(&'static str, Access)> {
        let route = self.find(path)?;
        Ok((route.service, route.access))
    }
}

fn owner<'a>(
    method: &'a Method,
    upstreams: &'a BTreeMap<&'static str, Upstream>,
) -> Option<(&'a str, &'static str, &'a Upstream)> {
    let (full_name, _) = method.path.strip_prefix('/')?.split_once('/')?;
    let package = full_name.strip_prefix("foundry.")?.split('.').next()?;
    upstreams.get_key_value(package).map(|(name, upstream)| (full_name, *name, upstream))
}
