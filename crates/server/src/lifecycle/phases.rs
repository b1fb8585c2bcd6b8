//! The phases of a stop that each service implements.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures::future::BoxFuture;

/// One phase: takes its time limit, returns the ids of what it could not finish.
pub(crate) type Phase = Box<dyn FnOnce(Duration) -> BoxFuture<'static, Vec<String>> + Send + Sync>;

/// The service's own phases, in the order in which they run. All are optional.
#[derive(Default)]
pub struct Phases {
    pub(crate) stop_claiming: Option<Phase>,
    pub(crate) drain_watches: Option<Phase>,
    pub(crate) finish_jobs: Option<Phase>,
    pub(crate) close_store: Option<Phase>,
}

macro_rules! phase {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name<F, Fut>(mut self, run: F) -> Self
        where
            F: FnOnce(Duration) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Vec<String>> + Send + 'static,
        {
            self.$name = Some(Box::new(move |limit| Box::pin(run(limit))));
            self
        }
    )*};
}

impl Phases {
    phase! {
        /// Take no new job or flow stage. Must return at once.
        stop_claiming;
        /// Send `Drain` to every watch, spread over the given time, and end it. Not called when there are no watches.
        drain_watches;
        /// Let jobs reach a step boundary, or release their leases; return the ids of those cut off.
        finish_jobs;
        /// Close the database; everything that could use it has ended by then.
        close_store;
    }
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phases")
            .field("stop_claiming", &self.stop_claiming.is_some())
            .field("drain_watches", &self.drain_watches.is_some())
            .field("finish_jobs", &self.finish_jobs.is_some())
            .field("close_store", &self.close_store.is_some())
            .finish()
    }
}
