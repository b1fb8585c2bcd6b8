//! Long answers from mirrors: what a `git fetch` transfers, and whole patches. They have a bulkhead of their own, so that
//! they delay no other request, and each is bounded in time, in size, and by how slowly its reader may take it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use foundry_core::{Error, OrganizationId, Result, TaskId, Tasks};
use foundry_git::{GitError, GitErrorKind, Piped, RunLimits};
use futures::Stream;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tonic::Status;

/// Answers at a time.
const PLACES: usize = 4;
/// Of those, for one organization: it alone leaves one to the others, who may have to wait for it.
const PLACES_OF_ONE: usize = 3;
/// Of all places, for sandboxes: whatever the number of organizations, users have one that no agent takes.
const PLACES_OF_ALL_SANDBOXES: usize = 3;
/// Of those of an organization, for all its sandboxes, and for one of them: agents leave one to their users.
const PLACES_OF_SANDBOXES: usize = 2;
const PLACES_OF_SANDBOX: usize = 1;
/// Requests that wait for a place, and how long.
const WAITING: usize = 32;
const WAITING_OF_ONE: usize = 8;
const WAITING_OF_SANDBOX: usize = 4;
const WAITING_OF_ALL_SANDBOXES: usize = 24;
const WAIT: Duration = Duration::from_secs(10);
/// Fetches of sandboxes that wait for the remote to be read, and those of one organization; one for each sandbox.
const REFRESHING: usize = 16;
const REFRESHING_OF_ONE: usize = 8;
/// How long one answer may take.
const WALL: Duration = Duration::from_secs(10 * 60);
/// How long a reader may leave a piece before the answer ends.
const STALLED: Duration = Duration::from_secs(60);
/// Largest answer in bytes, as large as the largest mirror.
const MAX_BYTES: u64 = 4 << 30;
/// Memory of one process.
const MEMORY: u64 = 1 << 30;
/// Pieces that wait for the reader.
const BUFFERED: usize = 2;

/// A stream of answers to one request.
pub type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// The bulkhead.
pub struct Serving {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    refreshing: Arc<Semaphore>,
    shares: Mutex<HashMap<Sharer, Shares>>,
    /// Directory of files that last as long as one answer.
    pub scratch: PathBuf,
    wait: Duration,
    tasks: Tasks,
}

/// One who gets a limited part of the places.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Sharer {
    Organization(OrganizationId),
    AllSandboxes,
    SandboxesOf(OrganizationId),
    SandboxOf(TaskId),
    RefreshesOf(OrganizationId),
    RefreshOf(TaskId),
}

impl Sharer {
    fn places(&self) -> usize {
        match self {
            Self::Organization(_) => PLACES_OF_ONE,
            Self::AllSandboxes => PLACES_OF_ALL_SANDBOXES,
            Self::SandboxesOf(_) => PLACES_OF_SANDBOXES,
            Self::RefreshesOf(_) => REFRESHING_OF_ONE,
            Self::SandboxOf(_) | Self::RefreshOf(_) => PLACES_OF_SANDBOX,
        }
    }

    fn waiting(&self) -> usize {
        match self {
            Self::Organization(_) => WAITING_OF_ONE,
            Self::AllSandboxes => WAITING_OF_ALL_SANDBOXES,
            Self::SandboxesOf(_) | Self::SandboxOf(_) | Self::RefreshesOf(_) | Self::RefreshOf(_) => {
                WAITING_OF_SANDBOX
            }
        }
    }
}

#[derive(Clone)]
struct Shares {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Shares {
    fn are_unused(&self) -> bool {
        // Permits hold it too.
        Arc::strong_count(&self.places) == 1 && Arc::strong_count(&self.waiting) == 1
    }
}

/// A place, held until the answer has ended.
pub struct Place(#[allow(dead_code)] Vec<OwnedSemaphorePermit>);

impl Serving {
    /// A bulkhead with all places free.
    pub fn new(scratch: PathBuf, tasks: Tasks) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            refreshing: Arc::new(Semaphore::new(REFRESHING)),
            shares: Mutex::default(),
            scratch,
            wait: WAIT,
            tasks,
        }
    }

    /// The limits of one process; its wall clock is kept by [`Serving::answer`].
    pub fn limits() -> RunLimits {
        RunLimits { wall: WALL, stdout: MAX_BYTES, file: None, memory: Some(MEMORY) }
    }

    /// Waits for a place, for a user of an organization or for the sandbox of a task.
    ///
    /// # Errors
    /// `UNAVAILABLE` when too many wait already, or none became free in time.
    pub async fn place(&self, organization: &OrganizationId, sandbox_of: Option<&TaskId>) -> Result<Place> {
        let mut sharers = vec![Sharer::Organization(organization.clone())];
        if let Some(task) = sandbox_of {
            let of_sandboxes = [Sharer::SandboxOf(task.clone()), Sharer::SandboxesOf(organization.clone())];
            sharers = of_sandboxes.into_iter().chain(sharers).chain([Sharer::AllSandboxes]).collect();
        }
        let shares: Vec<Shares> = sharers.into_iter().map(|sharer| self.shares(sharer)).collect();
        let waiting = shares.iter().map(|share| &share.waiting).chain([&self.waiting]);
        let permits = waiting.map(|all| Arc::clone(all).try_acquire_owned().map_err(|_| busy()));
        let _waiting = permits.collect::<Result<Vec<_>>>()?;
        // From the smallest part to the whole: who waits for a small one holds nothing of the larger ones.
        let places = shares.iter().map(|share| &share.places).chain([&self.places]);
        let held = async {
            let mut held = Vec::new();
            for all in places {
                held.push(Arc::clone(all).acquire_owned().await.map_err(Error::internal)?);
            }
            Ok(Place(held))
        };
        tokio::time::timeout(self.wait, held).await.map_err(|_| busy())?
    }

    /// A place for a fetch that waits for the remote to be read; none when its sandbox, those of its organization, or all
    /// together have theirs.
    pub fn refresh(&self, organization: &OrganizationId, task: &TaskId) -> Option<Place> {
        let sharers = [Sharer::RefreshOf(task.clone()), Sharer::RefreshesOf(organization.clone())];
        let [own, theirs] = sharers.map(|sharer| self.shares(sharer).places);
        let permits = [own, theirs, Arc::clone(&self.refreshing)].map(|all| all.try_acquire_owned().ok());
        permits.into_iter().collect::<Option<Vec<_>>>().map(Place)
    }

    fn shares(&self, of: Sharer) -> Shares {
        let mut all = foundry_core::lock(&self.shares);
        all.retain(|_, shares| !shares.are_unused());
        let fresh = Shares {
            places: Arc::new(Semaphore::new(of.places())),
            waiting: Arc::new(Semaphore::new(of.waiting())),
        };
        all.entry(of).or_insert(fresh).clone()
    }

    /// The process's output as answers, at the pace of their reader. The process ends with its output, at a limit, or
    /// when the reader is gone.
    pub fn answer(&self, place: Place, piped: Piped) -> impl Stream<Item = Result<Bytes, Status>> + use<> {
        let (pieces, taken) = mpsc::channel(BUFFERED);
        let (end, ended) = oneshot::channel();
        let stop = self.tasks.cancellation().clone();
        self.tasks.spawn("answer from a mirror", async move {
            let outcome = tokio::select! {
                // The reader is gone, so nobody asks for the reason.
                () = pieces.closed() => return,
                () = stop.cancelled() => Err(draining()),
                outcome = tokio::time::timeout(WALL, pump(piped, &pieces)) => {
                    outcome.unwrap_or_else(|_| Err(slow()))
                }
            };
            drop(place);
            // Not through the channel of the pieces: a slow reader has left no room in it.
            let _ = end.send(outcome);
        });
        futures::stream::unfold(Some((taken, ended)), |state| async move {
            let (mut taken, ended) = state?;
            if let Some(piece) = taken.recv().await {
                return Some((Ok(piece), Some((taken, ended))));
            }
            // Without a word the task has panicked.
            match ended.await.unwrap_or_else(|e| Err(Error::internal(e))) {
                Ok(()) => None,
                Err(error) => Some((Err(error.into_status()), None)),
            }
        })
    }
}

async fn pump(mut piped: Piped, to: &mpsc::Sender<Bytes>) -> Result<()> {
    while let Some(piece) = piped.next().await? {
        match to.send_timeout(piece, STALLED).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(slow()),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Ok(()),
        }
    }
    Ok(())
}

fn busy() -> Error {
    let text = "too many fetches and patches are being served";
    Error::unavailable("FETCH_BUSY", text, Duration::from_secs(5)).next_action("try again in some seconds")
}

fn slow() -> Error {
    let text = format!(
        "it took longer than {} minutes, or its reader took nothing for {} s",
        WALL.as_secs() / 60,
        STALLED.as_secs()
    );
    GitError::new(GitErrorKind::Timeout, "GIT_TIMEOUT", text).into()
}

fn draining() -> Error {
    let text = "the service is stopping";
    Error::unavailable("DRAINING", text, Duration::from_secs(1)).next_action("try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving() -> Serving {
        let (tasks, _) = Tasks::new();
        Serving { wait: Duration::from_millis(50), ..Serving::new(std::env::temp_dir(), tasks) }
    }

    /// Ids of different organizations.
    fn organizations<const N: usize>() -> [OrganizationId; N] {
        let test = foundry_testkit::test_env();
        std::array::from_fn(|_| OrganizationId::generate(&test.env))
    }

    #[tokio::test]
    async fn one_organization_leaves_a_place_to_others_and_waits_a_bounded_time() {
        let (serving, [one, other, third]) = (serving(), organizations());
        let mut held = Vec::new();
        for _ in 0..PLACES_OF_ONE {
            held.push(serving.place(&one, None).await.unwrap());
        }
        let refused = serving.place(&one, None).await.err().unwrap();
        assert_eq!((refused.reason(), refused.code()), ("FETCH_BUSY", foundry_core::Code::Unavailable));
        let _theirs = serving.place(&other, None).await.unwrap();
        assert!(serving.place(&third, None).await.is_err(), "all places are taken");
        held.pop();
        assert!(serving.place(&one, None).await.is_ok());
    }

    #[tokio::test]
    async fn sandboxes_leave_a_place_to_the_users_of_their_organization_and_to_each_other() {
        let (serving, [one]) = (serving(), organizations());
        let test = foundry_testkit::test_env();
        let tasks: [TaskId; 3] = std::array::from_fn(|_| TaskId::generate(&test.env));
        let first = serving.place(&one, Some(&tasks[0])).await.unwrap();
        assert!(serving.place(&one, Some(&tasks[0])).await.is_err(), "a sandbox has one place");
        let _second = serving.place(&one, Some(&tasks[1])).await.unwrap();
        assert!(serving.place(&one, Some(&tasks[2])).await.is_err(), "all its sandboxes have two");
        let _user = serving.place(&one, None).await.unwrap();
        drop(first);
        assert!(serving.place(&one, Some(&tasks[2])).await.is_ok());
    }

    #[tokio::test]
    async fn sandboxes_of_many_organizations_leave_a_place_to_the_users_of_all() {
        let (serving, [one, other, third]) = (serving(), organizations());
        let test = foundry_testkit::test_env();
        let tasks: [TaskId; 5] = std::array::from_fn(|_| TaskId::generate(&test.env));
        let mut held = Vec::new();
        for (organization, task) in [&one, &one, &other].into_iter().zip(&tasks) {
            held.push(serving.place(organization, Some(task)).await.unwrap());
        }
        assert!(serving.place(&other, Some(&tasks[3])).await.is_err(), "all sandboxes have three");
        let _user = serving.place(&third, None).await.unwrap();
        held.pop();
        assert!(serving.place(&third, Some(&tasks[4])).await.is_ok());
    }

    #[test]
    fn one_fetch_of_a_sandbox_waits_for_the_remote_and_few_of_an_organization_and_of_all_do() {
        let (serving, [one, other, third]) = (serving(), organizations());
        let test = foundry_testkit::test_env();
        let tasks: Vec<TaskId> = (0..=REFRESHING).map(|_| TaskId::generate(&test.env)).collect();
        let mut held = vec![serving.refresh(&one, &tasks[0]).unwrap()];
        assert!(serving.refresh(&one, &tasks[0]).is_none(), "a second fetch of the sandbox");
        let (ours, theirs) = tasks.split_at(REFRESHING_OF_ONE);
        held.extend(ours[1..].iter().map(|task| serving.refresh(&one, task).unwrap()));
        assert!(serving.refresh(&one, &theirs[0]).is_none(), "one more than those of an organization may");
        held.extend(theirs[1..].iter().map(|task| serving.refresh(&other, task).unwrap()));
        assert!(serving.refresh(&third, &theirs[0]).is_none(), "one more than all may");
        held.clear();
        assert!(serving.refresh(&one, &tasks[0]).is_some());
    }

    #[tokio::test]
    async fn a_crowd_is_refused_at_once() {
        let (serving, [one]) = (serving(), organizations());
        let mut held = Vec::new();
        for _ in 0..PLACES_OF_ONE {
            held.push(serving.place(&one, None).await.unwrap());
        }
        let mut waiting: Vec<_> = (0..WAITING_OF_ONE).map(|_| Box::pin(serving.place(&one, None))).collect();
        for wait in &mut waiting {
            assert!(futures::poll!(wait).is_pending());
        }
        let mut last = Box::pin(serving.place(&one, None));
        assert!(matches!(futures::poll!(&mut last), std::task::Poll::Ready(Err(_))));
        drop(waiting);
        let mut next = Box::pin(serving.place(&one, None));
        assert!(futures::poll!(&mut next).is_pending(), "those that gave up do not count");
        drop((held, next));
        let _ = serving.place(&one, None).await.unwrap();
        assert_eq!(foundry_core::lock(&serving.shares).len(), 1);
    }
}
