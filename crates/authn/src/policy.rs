//! The authorization entry of every method, read once from the descriptors.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use foundry_core::{Error, Result};
use foundry_proto::common::v1::Role;
use foundry_proto::options::v1::{Access, MethodPolicy};
use prost_reflect::{DescriptorPool, Value};

const EXTENSION: &str = "foundry.options.v1.policy";

/// The verbs of rpcs that change nothing but the caller's own streams. An rpc with any other verb may change something:
/// a new one counts as such until it is called by one of these.
const READING: [&str; 8] = ["Authorize", "Check", "Explain", "Get", "List", "Propose", "Serve", "Stream"];
/// Verbs of watches, which are reads as well.
const WATCHING: [&str; 2] = ["Watch", "ModifyWatches"];

/// A method and its authorization entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// The HTTP path, `/foundry.task.v1.TaskService/CreateTask`.
    pub path: String,
    /// The authorization entry, if it has one.
    pub policy: Option<MethodPolicy>,
    /// Whether it streams responses.
    pub server_streaming: bool,
}

impl Method {
    /// Whether it only reads, by the verb that its name begins with.
    pub fn only_reads(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        READING.iter().chain(&WATCHING).any(|verb| {
            let rest = name.strip_prefix(verb);
            rest.is_some_and(|rest| rest.chars().next().is_none_or(|c| c.is_ascii_uppercase()))
        })
    }

    /// What is wrong with the entry, if anything; a method with a defect is refused.
    pub fn defect(&self) -> Option<String> {
        let Some(policy) = &self.policy else { return Some("has no policy".to_owned()) };
        let names = &policy.services;
        if let Some(name) = names.iter().find(|n| !services().contains(n.as_str())) {
            return Some(format!("lists the unknown service {name}"));
        }
        let role = Role::try_from(policy.role).ok();
        match Access::try_from(policy.access) {
            Ok(Access::Open) if names.is_empty() && role == Some(Role::Unspecified) => None,
            Ok(Access::Open) => Some("is open but has a role or services".to_owned()),
            Ok(Access::User) if role == Some(Role::Unspecified) => None,
            Ok(Access::User) => Some("has a role but does not require a membership".to_owned()),
            Ok(Access::Member) if role.is_some_and(|r| r != Role::Unspecified) => None,
            Ok(Access::Member) => Some("has no role".to_owned()),
            Ok(Access::Service) if names.is_empty() => Some("lists no service".to_owned()),
            Ok(Access::Service) if role == Some(Role::Unspecified) => None,
            Ok(Access::Service) => Some("has a role but is only for services".to_owned()),
            Ok(Access::Unspecified) | Err(_) => Some("does not define who may call it".to_owned()),
        }
    }
}

/// The authorization entries of all methods, by path.
#[derive(Clone, Debug, Default)]
pub struct MethodPolicies {
    by_path: HashMap<String, Method>,
}

impl MethodPolicies {
    /// The entries of all Foundry services.
    ///
    /// # Errors
    /// `INTERNAL` when a method lacks a sound entry; no service starts then.
    pub fn load() -> Result<Self> {
        let policies = Self::described()?.clone();
        let defects: Vec<_> =
            policies.methods().filter_map(|m| m.defect().map(|d| format!("{} {d}", m.path))).collect();
        if defects.is_empty() { Ok(policies) } else { Err(Error::internal(defects.join("; "))) }
    }

    /// The entries of all Foundry services, read once per process.
    ///
    /// # Errors
    /// As [`MethodPolicies::load`].
    pub fn shared() -> Result<Arc<Self>> {
        static SHARED: OnceLock<Arc<MethodPolicies>> = OnceLock::new();
        if let Some(shared) = SHARED.get() {
            return Ok(shared.clone());
        }
        let loaded = Arc::new(Self::load()?);
        Ok(SHARED.get_or_init(|| loaded).clone())
    }

    /// What the descriptors of this build say, sound or not, read once in a process.
    fn described() -> Result<&'static Self> {
        static DESCRIBED: OnceLock<MethodPolicies> = OnceLock::new();
        if let Some(described) = DESCRIBED.get() {
            return Ok(described);
        }
        let read = Self::read(foundry_proto::FILE_DESCRIPTOR_SET)?;
        Ok(DESCRIBED.get_or_init(|| read))
    }

    /// Those of an encoded `FileDescriptorSet`, sound or not.
    ///
    /// # Errors
    /// `INTERNAL` when the set cannot be read.
    pub fn read(descriptors: &[u8]) -> Result<Self> {
        let pool = DescriptorPool::decode(descriptors).map_err(Error::internal)?;
        let extension = pool.get_extension_by_name(EXTENSION);
        let extension = extension.ok_or_else(|| Error::internal("the policy option is not declared"))?;
        let mut by_path = HashMap::new();
        for service in pool.services() {
            for method in service.methods() {
                let path = format!("/{}/{}", service.full_name(), method.name());
                let options = method.options();
                let policy = match options.get_extension(&extension).as_ref() {
                    Value::Message(m) if options.has_extension(&extension) => {
                        Some(m.transcode_to::<MethodPolicy>().map_err(Error::internal)?)
                    }
                    _ => None,
                };
                let server_streaming = method.is_server_streaming();
                by_path.insert(path.clone(), Method { path, policy, server_streaming });
            }
        }
        Ok(Self { by_path })
    }

    /// The method at a path.
    pub fn get(&self, path: &str) -> Option<&Method> {
        self.by_path.get(path)
    }

    /// All methods, in no order.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.by_path.values()
    }
}

/// The services that exist, and so the names that identities and policies may use: each serves the rpcs of its own
/// package, `foundry.NAME.v1`. Empty when the descriptors cannot be read, with which no service starts.
pub fn services() -> &'static BTreeSet<&'static str> {
    static SERVICES: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
        let described = MethodPolicies::described().ok();
        described.into_iter().flat_map(MethodPolicies::methods).filter_map(|m| server_of(&m.path)).collect()
    });
    &SERVICES
}

/// The service that a method belongs to by its package; none for the package that every service serves.
fn server_of(path: &str) -> Option<&str> {
    match path.strip_prefix("/foundry.")?.split('.').next()? {
        "edge" => Some("gateway"),
        "watch" => None,
        package => Some(package),
    }
}

/// Health and reflection: open on every server.
pub(crate) fn is_infrastructure(path: &str) -> bool {
    [
        "/grpc.health.v1.Health/",
        "/grpc.reflection.v1.ServerReflection/",
        "/grpc.reflection.v1alpha.ServerReflection/",
    ]
    .iter()
    .any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_of_every_service_has_a_sound_authorization_entry() {
        let policies = MethodPolicies::read(foundry_proto::FILE_DESCRIPTOR_SET).unwrap();
        let defects: Vec<_> =
            policies.methods().filter_map(|m| m.defect().map(|d| (m.path.clone(), d))).collect();
        assert_eq!(defects, []);
    }

    /// A command carries a request id, for its repetition; a read carries none.
    #[test]
    fn an_rpc_that_only_reads_takes_no_request_id_and_any_other_takes_one_or_is_listed() {
        const WITHOUT_AN_ID: [&str; 19] = [
            "BeginProgramSignIn",
            "BeginSignIn",
            "CompleteProgramSignIn",
            "CompleteSignIn",
            "ConfirmProgramSignIn",
            "DeleteReviewComment",
            "DenyProgramSignIn",
            "ExchangeToken",
            "HoldAttachments",
            "ImportWork",
            "MarkFileViewed",
            "MarkRead",
            "PutReviewComment",
            "ReceiveSignIn",
            "ReceiveWebhook",
            "ReleaseClone",
            "SignOut",
            "TestModelProvider",
            "UpdateDraft",
        ];
        let pool = DescriptorPool::decode(foundry_proto::FILE_DESCRIPTOR_SET).unwrap();
        let policies = MethodPolicies::read(foundry_proto::FILE_DESCRIPTOR_SET).unwrap();
        let (mut wrong, mut listed) = (Vec::new(), BTreeSet::new());
        for method in pool.services().flat_map(|s| s.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let reads = policies.get(&path).unwrap().only_reads();
            let is_command = method.input().get_field_by_name("request_id").is_some();
            let is_listed = WITHOUT_AN_ID.contains(&method.name());
            if is_listed {
                listed.insert(method.name().to_owned());
            }
            if reads == (is_command || is_listed) {
                wrong.push(path);
            }
        }
        assert_eq!((wrong, listed.len()), (Vec::<String>::new(), WITHOUT_AN_ID.len()));
    }

    #[test]
    fn a_verb_is_a_whole_word() {
        let of = |name: &str| Method { path: format!("/x/{name}"), policy: None, server_streaming: false };
        for (name, reads) in
            [("GetTask", true), ("Watch", true), ("Getaway", false), ("SetMember", false), ("", false)]
        {
            assert_eq!(of(name).only_reads(), reads, "{name}");
        }
    }

    #[test]
    fn services_are_named_after_their_packages() {
        for (name, exists) in [("auth", true), ("gateway", true), ("edge", false), ("watch", false)] {
            assert_eq!(services().contains(name), exists, "{name}");
        }
    }

    #[test]
    fn finds_each_way_an_entry_can_be_unsound() {
        let of = |access: Access, role: Role, services: &[&str]| {
            let policy = MethodPolicy {
                access: access as i32,
                role: role as i32,
                services: services.iter().map(|s| (*s).to_owned()).collect(),
                ..Default::default()
            };
            Method { path: "/x/Y".into(), policy: Some(policy), server_streaming: false }.defect().is_some()
        };
        assert!(Method { path: "/x/Y".into(), policy: None, server_streaming: false }.defect().is_some());
        assert!(of(Access::Unspecified, Role::Unspecified, &[]));
        assert!(of(Access::Member, Role::Unspecified, &[]));
        assert!(of(Access::Service, Role::Unspecified, &[]));
        assert!(of(Access::Service, Role::Unspecified, &["tsak"]));
        assert!(of(Access::Open, Role::Unspecified, &["task"]));
        assert!(of(Access::User, Role::Viewer, &[]));
        assert!(!of(Access::Member, Role::Viewer, &["task"]));
    }
}
