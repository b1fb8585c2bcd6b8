//! Stored files: their bytes in an object store, how they get to and from agents, and the sweep of unused ones.

mod agent_files;
mod prompt;
mod sweep;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{AttachmentId, Env, Error, OrganizationId};
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::sync::{Mutex, Notify, Semaphore};

pub use agent_files::keep;
pub use prompt::{PromptContent, prompt_content};
#[cfg(test)]
pub use sweep::sweep;
pub use sweep::sweep_again;

/// How long one transfer to or from the store may take.
const TRANSFER: Duration = Duration::from_secs(8);
/// Transfers at the same time; others wait. It bounds the memory that files take.
const AT_ONCE: usize = 16;
/// A file whose bytes were never stored is swept after this time.
pub const INTENT: Duration = Duration::from_secs(3_600);
/// A file of a message that was never delivered to the agent is kept this long.
pub const HELD: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The bytes of stored files.
pub struct Attachments {
    objects: Arc<dyn ObjectStore>,
    transfers: Semaphore,
    env: Env,
    /// Held while free space is checked and taken.
    pub admission: Mutex<()>,
    /// Wakes the sweep.
    pub sweep_requested: Notify,
}

impl Attachments {
    /// Opens the store at this URL; empty = the directory `own`, which is created if missing.
    ///
    /// # Errors
    /// `ATTACHMENT_STORE_UNUSABLE` for any other URL than `file:///path`, or a directory that cannot be used.
    pub fn open(url: &str, own: &Path, env: &Env) -> Result<Self, Error> {
        let unusable = |what: String| {
            Error::precondition("ATTACHMENT_STORE_UNUSABLE", "provisioner.attachments.store_url", what)
                .next_action(
                    "use file:///PATH with a directory that this process can write to, or leave it empty",
                )
        };
        let directory = match url::Url::parse(url) {
            _ if url.is_empty() => own.to_owned(),
            Ok(parsed) if parsed.scheme() == "file" => parsed
                .to_file_path()
                .map_err(|()| unusable(format!("{url} is not a directory on this machine")))?,
            _ => return Err(unusable(format!("the scheme of {url} is not supported"))),
        };
        let opened = std::fs::create_dir_all(&directory)
            .map_err(|e| e.to_string())
            .and_then(|()| LocalFileSystem::new_with_prefix(&directory).map_err(|e| e.to_string()))
            // The file's row survives a power cut, so its bytes must too.
            .map(|store| store.with_fsync(true));
        let store = opened.map_err(|e| unusable(format!("{} cannot be used: {e}", directory.display())))?;
        Ok(Self::over(Arc::new(store), env))
    }

    /// With this store.
    pub fn over(objects: Arc<dyn ObjectStore>, env: &Env) -> Self {
        Self {
            objects,
            transfers: Semaphore::new(AT_ONCE),
            env: env.clone(),
            admission: Mutex::new(()),
            sweep_requested: Notify::new(),
        }
    }

    /// Writes the bytes of a file; idempotent.
    ///
    /// # Errors
    /// `ATTACHMENT_STORE_UNAVAILABLE`.
    pub async fn put(
        &self,
        organization: &OrganizationId,
        id: &AttachmentId,
        bytes: Bytes,
    ) -> Result<(), Error> {
        self.within(self.objects.put(&path(organization, id), bytes.into())).await.map(drop)
    }

    /// The bytes of a file; none when the store has none.
    ///
    /// # Errors
    /// `ATTACHMENT_STORE_UNAVAILABLE`.
    pub async fn get(
        &self,
        organization: &OrganizationId,
        id: &AttachmentId,
    ) -> Result<Option<Bytes>, Error> {
        let path = path(organization, id);
        let read = async {
            match self.objects.get(&path).await {
                Ok(found) => found.bytes().await.map(Some),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(e) => Err(e),
            }
        };
        self.within(read).await
    }

    /// Deletes the bytes of a file; idempotent.
    ///
    /// # Errors
    /// `ATTACHMENT_STORE_UNAVAILABLE`.
    pub async fn delete(&self, organization: &OrganizationId, id: &AttachmentId) -> Result<(), Error> {
        let path = path(organization, id);
        let gone = async {
            match self.objects.delete(&path).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        };
        self.within(gone).await
    }

    async fn within<T>(&self, work: impl Future<Output = object_store::Result<T>>) -> Result<T, Error> {
        let work = async {
            // The semaphore is never closed.
            let _place = self.transfers.acquire().await;
            work.await
        };
        tokio::select! {
            biased;
            done = work => done.map_err(|e| unavailable().caused_by(e)),
            () = self.env.clock.sleep(TRANSFER) => Err(unavailable()),
        }
    }
}

fn unavailable() -> Error {
    let text = "the attachment store does not respond";
    Error::unavailable("ATTACHMENT_STORE_UNAVAILABLE", text, Duration::from_secs(2)).next_action("try again")
}

/// The path of a file: derived from its id, so that bytes left by a crash are found through the row.
fn path(organization: &OrganizationId, id: &AttachmentId) -> object_store::path::Path {
    object_store::path::Path::from_iter([organization.as_str(), id.as_str()])
}

#[cfg(test)]
mod tests;
