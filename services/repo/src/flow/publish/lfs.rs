//! The files of Git LFS that a branch needs are at the remote before the branch is.

use foundry_core::counted;
use foundry_git::{CommitId, GitError, LfsUpload, RemoteUrl};

use super::Loaded;
use crate::domain::publishing::Refused;
use crate::flow::pushing::said;

/// Uploads what is new in the commit. Returns why the branch is not to be pushed: the remote has refused a file, or lacks one
/// that is not here, unless that is published all the same.
///
/// # Errors
/// When the remote cannot be asked.
pub async fn refused(
    loaded: &Loaded,
    remote: &RemoteUrl,
    new: &CommitId,
) -> Result<Option<Refused>, GitError> {
    let Loaded { branch, mirror, publish, job, .. } = loaded;
    Ok(match Box::pin(mirror.upload_lfs(remote, branch, new)).await? {
        LfsUpload::Complete(0) => None,
        LfsUpload::Complete(count) => {
            tracing::info!(job = %job.job_id, count, "files of Git LFS were uploaded");
            None
        }
        LfsUpload::Missing(..) if publish.force => None,
        LfsUpload::Missing(count, which) => Some(left_out(count, &which)),
        LfsUpload::Refused(refusal) => {
            let said = said(&refusal);
            let message = format!("the remote does not take a file of Git LFS: {said}; nothing was pushed");
            Some(Refused { reason: refusal.reason, message })
        }
    })
}

/// Why the branch would not be pushed for its files of LFS, as far as that is known without an upload; for a plan.
///
/// # Errors
/// When the remote cannot be asked.
pub async fn lacks(loaded: &Loaded, remote: &RemoteUrl, new: &CommitId) -> Result<Option<Refused>, GitError> {
    let Loaded { branch, mirror, publish, .. } = loaded;
    if publish.force {
        return Ok(None);
    }
    Ok(match Box::pin(mirror.lacks_lfs_upload(remote, branch, new)).await? {
        LfsUpload::Missing(count, which) => Some(left_out(count, &which)),
        LfsUpload::Complete(_) | LfsUpload::Refused(_) => None,
    })
}

fn left_out(count: u64, which: &str) -> Refused {
    let count = counted(i64::try_from(count).unwrap_or(i64::MAX), "file");
    let message = format!(
        "the branch points to {count} of Git LFS that neither the remote nor Foundry has ({which}); nothing was pushed"
    );
    Refused { reason: "LFS_OBJECTS_LEFT_OUT", message }
}
