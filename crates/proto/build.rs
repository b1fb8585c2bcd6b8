//! Compiles `proto/` without a system protoc: messages once, services in a second pass in which
//! every watch response is the shared raw frame.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const FILES: &[&str] = &[
    "foundry/common/v1/common.proto",
    "foundry/common/v1/secret.proto",
    "foundry/common/v1/offer.proto",
    "foundry/common/v1/elicitation.proto",
    "foundry/common/v1/transcript.proto",
    "foundry/common/v1/work.proto",
    "foundry/options/v1/options.proto",
    "foundry/watch/v1/watch.proto",
    "foundry/watch/v1/raw.proto",
    "foundry/watch/v1/authorization_service.proto",
    "foundry/edge/v1/edge_service.proto",
    "foundry/auth/v1/auth.proto",
    "foundry/auth/v1/session.proto",
    "foundry/auth/v1/program_sign_in.proto",
    "foundry/auth/v1/auth_service.proto",
    "foundry/repo/v1/credential.proto",
    "foundry/repo/v1/job.proto",
    "foundry/repo/v1/repo.proto",
    "foundry/repo/v1/webhook.proto",
    "foundry/repo/v1/repo_service.proto",
    "foundry/provisioner/v1/provisioner.proto",
    "foundry/provisioner/v1/provisioner_service.proto",
    "foundry/provisioner/v1/profile.proto",
    "foundry/provisioner/v1/profile_service.proto",
    "foundry/provisioner/v1/attachment_service.proto",
    "foundry/task/v1/task.proto",
    "foundry/task/v1/task_service.proto",
];

/// Its `Debug` is written by hand, so that it does not print the secret.
const SECRET: &str = ".foundry.common.v1.SecretText";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed={}", root.display());

    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    // The encoded form keeps the method options; the typed one would drop them.
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();

    prost_build::Config::new()
        .enable_type_names()
        .bytes(["."])
        .skip_debug([SECRET])
        .compile_fds(descriptors.clone())?;

    let services = out.join("services");
    fs::create_dir_all(&services)?;
    let mut config = tonic_prost_build::configure()
        .out_dir(&services)
        .extern_path(".foundry", "crate")
        .compile_well_known_types(false);
    for response in watch_responses(&descriptors) {
        config = config.extern_path(response, "::foundry_frame::Frame");
    }
    config.compile_fds(descriptors)?;
    Ok(())
}

/// Full names of the responses of all server-streaming `Watch*` rpcs; the edge's `Watch` carries them, and is none.
fn watch_responses(descriptors: &prost_types::FileDescriptorSet) -> Vec<String> {
    descriptors
        .file
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method)
        .filter(|method| {
            method.server_streaming()
                && method.name().len() > "Watch".len()
                && method.name().starts_with("Watch")
        })
        .map(|method| method.output_type().to_owned())
        .collect()
}
