//! The parents of branches that git-spice has recorded at the remote, under `refs/spice/data`: a file of JSON for each branch.

use serde::Deserialize;

use super::Mirror;
use super::fetch::remote_command;
use crate::{BranchName, RemoteUrl, Result, RunLimits};

/// Where git-spice keeps its data.
const THEIRS: &str = "refs/spice/data";
/// Where the mirror keeps it.
const OURS: &str = "refs/foundry/spice";
/// Largest file of a branch; a larger one is left out.
const MAX_FILE: usize = 64 << 10;

/// What matters of the file of a branch.
#[derive(Deserialize)]
struct State {
    base: Base,
}

#[derive(Deserialize)]
struct Base {
    name: String,
}

impl Mirror {
    /// The branches with their parents, as git-spice has recorded them; empty when the remote has no such data. A file
    /// that cannot be understood is left out.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub async fn spice_parents(&self, remote: &RemoteUrl) -> Result<Vec<(BranchName, BranchName)>> {
        let endpoint = remote.pin().await?;
        let limits = RunLimits { wall: self.limits.list_wall, stdout: 1 << 16, ..RunLimits::default() };
        let listed = remote_command(self.git.command("ls-remote"), &endpoint, limits)
            .args(["--quiet"])
            .operands([endpoint.operand.as_os_str()])
            .operands([THEIRS])
            .run()
            .await
            .map_err(|e| endpoint.explain(e))?;
        if listed.stdout.is_empty() {
            return Ok(Vec::new());
        }
        let limits = RunLimits {
            wall: self.limits.fetch_wall,
            stdout: 1 << 20,
            file: Some(self.limits.max_bytes),
            memory: None,
        };
        let _lock = self.lock().await?;
        remote_command(self.git.command("fetch"), &endpoint, limits)
            .git_dir(&self.dir)
            .args(["--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"])
            .args(["--no-auto-maintenance", "--force"])
            .operands([endpoint.operand.clone()])
            .operands([format!("+{THEIRS}:{OURS}")])
            .run()
            .await
            .map_err(|e| endpoint.explain(e))?;
        self.read_spice().await
    }

    async fn read_spice(&self) -> Result<Vec<(BranchName, BranchName)>> {
        let listed = self.command("ls-tree").args(["-r", "-z", "--full-tree"]).operands([OURS]).run().await?;
        let mut files = Vec::new();
        for entry in listed.stdout.split(|b| *b == 0) {
            let Some((about, path)) = std::str::from_utf8(entry).ok().and_then(|e| e.split_once('\t')) else {
                continue;
            };
            let branch = path.strip_prefix("branches/").and_then(|name| BranchName::parse(name).ok());
            if let (Some(branch), [_, "blob", id]) = (branch, about.split(' ').collect::<Vec<_>>().as_slice())
            {
                files.push((branch, (*id).to_owned()));
            }
        }
        let input: String = files.iter().map(|(_, id)| format!("{id}\n")).collect();
        let read = self.command("cat-file").args(["--batch"]).stdin(input).limits(self.local(64 << 20));
        let read = read.run().await?.stdout;
        let (mut rest, mut found) = (&read[..], Vec::new());
        for (branch, _) in files {
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let size = String::from_utf8_lossy(&rest[..end]);
            let size: usize = size.rsplit(' ').next().and_then(|size| size.parse().ok()).unwrap_or(0);
            let text = rest.get(end + 1..end + 1 + size).unwrap_or_default();
            rest = rest.get(end + 2 + size..).unwrap_or_default();
            let state = (size <= MAX_FILE).then(|| serde_json::from_slice::<State>(text).ok()).flatten();
            let parent = state.and_then(|state| BranchName::parse(&state.base.name).ok());
            found.extend(parent.filter(|parent| *parent != branch).map(|parent| (branch, parent)));
        }
        Ok(found)
    }
}
