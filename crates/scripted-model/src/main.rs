//! `foundry-scripted-model PORT [LOG]`: runs the scripted model on 127.0.0.1.

use std::fs::File;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use foundry_scripted_model::ScriptedModel;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(port) = args.next().and_then(|port| port.parse::<u16>().ok()) else {
        eprintln!("usage: foundry-scripted-model PORT [LOG]");
        return ExitCode::from(2);
    };
    match run(port, args.next().as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: the scripted model could not run: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(port: u16, log: Option<&str>) -> std::io::Result<()> {
    let log = log.map(File::create).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let model = ScriptedModel::start_on((Ipv4Addr::LOCALHOST, port).into(), log).await?;
        println!("scripted model on {}", model.url());
        tokio::signal::ctrl_c().await
    })
}
