//! Runs a program with one PostgreSQL for all tests in it: `with-postgres PROGRAM [ARGUMENT ...]`.

use std::process::{Command, ExitCode};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use foundry_testkit::PostgresCluster;

/// How often databases of finished tests are dropped.
const TIDY: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: with-postgres PROGRAM [ARGUMENT ...]");
        return ExitCode::from(2);
    };
    let cluster = match PostgresCluster::start() {
        Ok(cluster) => cluster,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    let (name, value) = cluster.variable();
    let (ended, end) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = end;
            while end.recv_timeout(TIDY) == Err(RecvTimeoutError::Timeout) {
                if let Err(e) = cluster.drop_what_ended() {
                    eprintln!("databases stay until the end: {e}");
                }
            }
        });
        let status = Command::new(&program).args(words).env(name, value).status();
        drop(ended);
        match status {
            Ok(status) if status.success() => ExitCode::SUCCESS,
            Ok(status) => ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
            Err(e) => {
                eprintln!("{}: {e}", program.display());
                ExitCode::FAILURE
            }
        }
    })
}
