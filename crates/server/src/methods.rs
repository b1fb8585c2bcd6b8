//! Properties of each method by the descriptors: which are streams.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message as _;

/// Which side of a call streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodKind {
    /// The caller sends many messages.
    pub client_streaming: bool,
    /// The server sends many messages.
    pub server_streaming: bool,
}

impl MethodKind {
    /// Whether either side streams; such a call has no deadline from the server and a permit of its own.
    pub fn is_stream(self) -> bool {
        self.client_streaming || self.server_streaming
    }
}

/// Services outside our protos that every server implements.
const OTHERS: [(&str, MethodKind); 4] = [
    ("/grpc.health.v1.Health/Check", MethodKind { client_streaming: false, server_streaming: false }),
    ("/grpc.health.v1.Health/Watch", MethodKind { client_streaming: false, server_streaming: true }),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        MethodKind { client_streaming: true, server_streaming: true },
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        MethodKind { client_streaming: true, server_streaming: true },
    ),
];

static METHODS: LazyLock<HashMap<String, MethodKind>> = LazyLock::new(|| {
    // The set is compiled in and was decoded by its own build; an empty table would only treat streams as unary calls.
    let set = prost_types::FileDescriptorSet::decode(foundry_proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut methods: HashMap<_, _> = OTHERS.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let kind = MethodKind {
                    client_streaming: method.client_streaming(),
                    server_streaming: method.server_streaming(),
                };
                methods.insert(path, kind);
            }
        }
    }
    methods
});

/// The method of a request path such as `/foundry.task.v1.TaskService/CreateTask`; `None` when no proto has it.
pub fn method(path: &str) -> Option<(&'static str, MethodKind)> {
    METHODS.get_key_value(path).map(|(name, kind)| (name.as_str(), *kind))
}

/// The kind of a method; an unknown one counts as unary.
pub fn kind(path: &str) -> MethodKind {
    method(path).map(|(_, kind)| kind).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_streams_from_unary_calls() {
        assert!(!kind("/foundry.task.v1.TaskService/CreateTask").is_stream());
        assert!(kind("/foundry.task.v1.TaskService/WatchTask").server_streaming);
        assert!(kind("/foundry.repo.v1.RepoService/ImportWork").client_streaming);
        assert!(kind("/grpc.health.v1.Health/Watch").is_stream());
        assert_eq!(method("/nobody.Nothing/Ever"), None);
    }
}
