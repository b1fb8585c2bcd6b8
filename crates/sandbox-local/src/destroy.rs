//! Ending a sandbox: first every process, then the directory.

use std::fs;
use std::io;
use std::time::Duration;

use foundry_sandbox::process::{KILL_GRACE, Mark, Presence, ProcessRef, descendants, marked_tree};
use foundry_sandbox::{Destroyed, ProviderError, RuntimeFacts, SandboxName};
use rustix::fs::{FlockOperation, flock};

use crate::launch::supervisor_file;
use crate::layout::{Layout, read_json, remove_left_overs, remove_tree};
use crate::limits::Group;
use crate::place::Place;
use crate::{LocalProvider, blocking};

/// How long to wait for a start that is in progress.
const LET_GO: Duration = Duration::from_secs(5);

impl LocalProvider {
    pub(crate) async fn remove(&self, name: &SandboxName) -> Result<Destroyed, ProviderError> {
        let layout = self.layout(name);
        let (root, name, groups) = (self.config.root.clone(), name.clone(), self.groups(name));
        // A start in progress ends first, or finds the sandbox gone; the wait for it is bounded.
        let _starting = self.start_lock(&layout, LET_GO).await.ok();
        blocking("destroying the sandbox", move || {
            end_processes(&layout, &name, &groups)?;
            let trash = root.join(format!(".trash-{name}"));
            remove_tree(&trash)?;
            remove_left_overs(&root, &format!(".new-{name}-"))?;
            // Renamed first, so that the half-removed directory cannot be taken for a sandbox.
            match fs::rename(&layout.dir, &trash) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Destroyed::AlreadyGone),
                other => other?,
            }
            remove_tree(&trash)?;
            Ok(Destroyed::Removed)
        })
        .await
    }
}

/// Kills the runtime, whose supervisor then kills the rest; what a killed supervisor left is found by the mark in its
/// environment, by descent and by its control groups. Returns when none is left.
pub(crate) fn end_processes(layout: &Layout, name: &SandboxName, groups: &[Group]) -> io::Result<()> {
    let mark = Mark::of(name);
    if let Some(place) = read_json::<RuntimeFacts>(&layout.facts()).as_ref().and_then(Place::of) {
        place.process.kill()?;
    }
    let step = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    loop {
        let supervisor = read_json::<ProcessRef>(&supervisor_file(&layout.lock()))
            .filter(|s| s.presence() == Presence::Running);
        let mut grouped = false;
        for group in groups {
            grouped |= group.kill();
        }
        let mut left = marked_tree(&mark);
        if let Some(supervisor) = &supervisor {
            left.extend(descendants(supervisor.pid));
        }
        if left.is_empty() && !grouped && supervisor.is_none() && !is_locked(layout) {
            // Processes that were just killed may still be in it.
            match groups.iter().try_for_each(Group::remove) {
                Err(e) if e.kind() == io::ErrorKind::ResourceBusy && waited < KILL_GRACE => {}
                other => return other,
            }
        }
        for process in left {
            process.kill()?;
        }
        if waited >= KILL_GRACE {
            return Err(io::Error::other(format!("processes of sandbox {name} do not exit")));
        }
        if waited >= KILL_GRACE / 2 {
            // A stopped or hung supervisor is no longer needed; it is killed as well.
            if let Some(supervisor) = supervisor {
                supervisor.kill()?;
            }
        }
        #[allow(clippy::disallowed_methods)] // this runs on a blocking thread
        std::thread::sleep(step);
        waited += step;
    }
}

/// Whether a supervisor is alive: it holds the lock from before its runtime starts until every process has ended.
pub(crate) fn is_locked(layout: &Layout) -> bool {
    fs::File::open(layout.lock()).is_ok_and(|f| {
        flock(&f, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK)
    })
}
