//! `foundry` with one more sandbox provider, `fault`, which hangs and fails as files in a directory say: for the
//! stories of what happens then. The directory is named by the variable `FAULT_DIRECTORY`; without it, this is the
//! product.

use std::process::ExitCode;
use std::sync::Arc;

use foundry_fault_provider::FaultProvider;
use foundry_provisioner::FurtherProviders;
use foundry_sandbox::Provider;

fn main() -> ExitCode {
    let Some(directory) = std::env::var_os("FAULT_DIRECTORY") else {
        return foundry::run(foundry::no_further_providers());
    };
    let further: FurtherProviders = Arc::new(move |local, env| {
        let fault = FaultProvider::new(Arc::clone(local), directory.clone().into(), env.clone());
        vec![Arc::new(fault) as Arc<dyn Provider>]
    });
    foundry::run(further)
}
