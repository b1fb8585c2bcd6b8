//! Generated code of `proto/` and its descriptor set; no hand logic.
//!
//! Messages are typed. In the services, every watch response is [`foundry_frame::Frame`]: the same
//! bytes on the wire, encoded once and read without knowing the entity.

#![allow(missing_docs, clippy::all, clippy::pedantic, clippy::disallowed_methods, clippy::too_many_lines)]

macro_rules! packages {
    ($($name:ident { $messages:literal $(, $services:literal)? })*) => {$(
        #[doc = concat!("Package `", $messages, "`.")]
        pub mod $name {
            /// Version 1.
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

/// The encoded `FileDescriptorSet` of all packages, method options included.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
