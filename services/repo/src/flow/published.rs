//! What is recorded of a publication for the agent whose work it was.

use foundry_git::{CommitId, Mirror, Result};

/// The tree of the work that was published, by which a sandbox finds whether the agent has changed it since; empty if the
/// published commit has the same files, or the mirror does not have the work any more.
///
/// # Errors
/// When git fails.
pub async fn work_tree(mirror: &Mirror, work: &str, published: &str) -> Result<String> {
    let (Ok(work), Ok(published)) = (CommitId::parse(work), CommitId::parse(published)) else {
        return Ok(String::new());
    };
    if !mirror.has_commit(&work).await? {
        return Ok(String::new());
    }
    let of_work = mirror.tree_of(&work).await?;
    Ok(if of_work == mirror.tree_of(&published).await? { String::new() } else { of_work })
}
