//! `foundry` with an additional sandbox provider, `fault`, which hangs and fails as configured by files in a directory;
//! used by tests of such failures. The variable `FAULT_DIRECTORY` names the directory; without it, this is the plain
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
