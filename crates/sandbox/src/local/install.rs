//! Putting an agent, behind the tap, into the runtime's slot.

use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::PathBuf;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use rustix::fs::{AtFlags, Gid, Uid, chownat};

use super::bwrap;
use super::layout::SLOTS;
use super::{LocalProvider, Record, blocking};
use crate::{AgentKind, ProviderError};

impl LocalProvider {
    pub(super) async fn install(&self, record: &Record, agent: AgentKind) -> Result<(), ProviderError> {
        let foundry = self.foundry_inside(record).to_string_lossy().into_owned();
        let (home, uid) = (self.layout(&record.name).home(), record.uid);
        let file = format!("{}-acp", agent.slot());
        if agent == AgentKind::Demo {
            let command = [&foundry, "internal", "demo-agent"].map(str::to_owned);
            let script = launcher(&foundry, agent, &command);
            return blocking("installing the agent", move || {
                let home = Dir::open_ambient_dir(home, ambient_authority())?;
                let slots = make_dirs(&home, SLOTS, uid)?;
                write_executable(&slots, &file, &script, uid)
            })
            .await;
        }
        let installed = self.tools.ensure_agent(agent).await?;
        let cache = self.tools.cache().to_owned();
        let inside =
            if record.isolation.is_bubblewrap() { PathBuf::from(bwrap::TOOLS) } else { cache.clone() };
        // The runtime looks for the launcher and for the agent's own program beside it.
        let slots = self.inside_home(record).join(SLOTS);
        let real = slots.join(format!("{file}.real")).to_string_lossy().into_owned();
        let script = launcher(&foundry, agent, &[real]);
        blocking("installing the agent", move || {
            let from = installed.join(SLOTS).join(&file);
            let text = std::fs::read_to_string(&from)?;
            // Paths of the cache as the host sees it become those that the sandbox sees.
            let text = text.replace(&*cache.to_string_lossy(), &inside.to_string_lossy());
            let home = Dir::open_ambient_dir(home, ambient_authority())?;
            let slots = make_dirs(&home, SLOTS, uid)?;
            write_executable(&slots, &format!("{file}.real"), &text, uid)?;
            let programs = SLOTS.trim_end_matches("/agent_processes");
            if installed.join(programs).join(agent.slot()).exists() {
                let relative = installed.strip_prefix(&cache).map_err(io::Error::other)?;
                let target = inside.join(relative).join(programs).join(agent.slot());
                let programs = make_dirs(&home, programs, uid)?;
                let _ = programs.remove_file(agent.slot());
                programs.symlink_contents(target, agent.slot())?;
            }
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
