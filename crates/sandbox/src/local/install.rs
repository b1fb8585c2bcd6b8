//! Putting an agent, behind the tap, into the runtime's slot.

use std::io::{self, Write as _};
use std::os::fd::AsFd;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{AtFlags, Gid, Uid, chownat};

use super::layout::SLOTS;
use super::{LocalProvider, Record, blocking};
use crate::{AgentKind, Class, ProviderError};

impl LocalProvider {
    pub(super) async fn install(&self, record: &Record, agent: AgentKind) -> Result<(), ProviderError> {
        let foundry = self.foundry_inside(record).to_string_lossy().into_owned();
        let command = match agent {
            AgentKind::Demo => vec![foundry.clone(), "internal".to_owned(), "demo-agent".to_owned()],
            other => {
                let message = format!("agent {other} cannot be installed by the local provider yet");
                return Err(ProviderError::new(Class::Configuration, "AGENT_NOT_INSTALLABLE", message));
            }
        };
        let script = launcher(&foundry, agent, &command);
        let (home, uid) = (self.layout(&record.name).home(), record.uid);
        let file = format!("{}-acp", agent.slot());
        blocking("installing the agent", move || {
            let home = Dir::open_ambient_dir(home, ambient_authority())?;
            let slots = make_dirs(&home, SLOTS, uid)?;
            write_executable(&slots, &file, &script, uid)
        })
        .await
    }
}

/// The script in the slot: the tap, with the agent's command behind it.
fn launcher(foundry: &str, agent: AgentKind, command: &[String]) -> String {
    let quoted = |s: &str| format!("'{}'", s.replace('\'', r"'\''"));
    let command: Vec<String> = command.iter().map(|s| quoted(s)).collect();
    format!(
        "#!/bin/sh\nexec {} internal tap --agent {} -- {}\n",
        quoted(foundry),
        agent.name(),
        command.join(" ")
    )
}

/// Makes directories beneath HOME. The agent may be running and may have put links there: every step
/// goes through the handle of HOME and cannot leave it.
fn make_dirs(home: &Dir, path: &str, uid: Option<u32>) -> io::Result<Dir> {
    let mut dir = home.try_clone()?;
    for part in path.split('/') {
        match dir.create_dir(part) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        dir = dir.open_dir(part)?;
        give(&dir, ".", uid)?;
    }
    Ok(dir)
}

fn write_executable(dir: &Dir, name: &str, text: &str, uid: Option<u32>) -> io::Result<()> {
    let new = format!(".new-{name}");
    let _ = dir.remove_file(&new);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o755);
    let mut file = dir.open_with(&new, &options)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    give(dir, &new, uid)?;
    dir.rename(&new, dir, name)
}

fn give(dir: &impl AsFd, name: &str, uid: Option<u32>) -> io::Result<()> {
    let Some(uid) = uid else { return Ok(()) };
    Ok(chownat(dir, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)), AtFlags::SYMLINK_NOFOLLOW)?)
}
