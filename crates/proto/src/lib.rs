//! Generated code of `proto/` and its descriptor set. The only logic by hand is the `Debug` of secrets.
//!
//! Messages are typed. In the services, every watch response is [`foundry_frame::Frame`]: the same
//! bytes on the wire, encoded once and read without knowing the entity.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::disallowed_methods, clippy::too_many_lines)]

macro_rules! packages {
    ($($name:ident { $messages:literal $(, $services:literal)? })*) => {$(
        #[doc = concat!("Package `", $messages, "`.")]
        pub mod $name {
            /// Version 1 of the package: its messages, clients and servers.
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/", $messages, ".rs"));
                $(include!(concat!(env!("OUT_DIR"), "/services/", $services, ".rs"));)?
            }
        }
    )*};
}

packages! {
    common { "foundry.common.v1" }
    options { "foundry.options.v1" }
    watch { "foundry.watch.v1", "foundry.watch.v1" }
    edge { "foundry.edge.v1", "foundry.edge.v1" }
    auth { "foundry.auth.v1", "foundry.auth.v1" }
    repo { "foundry.repo.v1", "foundry.repo.v1" }
    provisioner { "foundry.provisioner.v1", "foundry.provisioner.v1" }
    task { "foundry.task.v1", "foundry.task.v1" }
}

pub use foundry_frame::Frame;

impl std::fmt::Debug for common::v1::SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.value.is_empty() { "SecretText()" } else { "SecretText(***)" })
    }
}

/// The encoded `FileDescriptorSet` of all packages, method options included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

#[cfg(test)]
mod tests {
    use super::common::v1::{NamedValue, SecretText, named_value::Content};

    #[test]
    fn a_secret_does_not_print_itself_wherever_it_is() {
        let secret = SecretText { value: "canary".to_owned() };
        let header = NamedValue { name: "x".to_owned(), content: Some(Content::Secret(secret)) };
        let printed = format!("{header:?}");
        assert!(printed.contains("***") && !printed.contains("canary"), "{printed}");
    }
}
