//! Serving watches: a [`Hub`] turns a [`View`] (a query by revision) into streams of frames that resume by state:
//! snapshot, deltas, bookmarks, reset, drain. The wire contract and its consumer are in `foundry-watch`.
//!
//! The database is the truth. Hints and the ring of encoded changes only make it fast.

mod body;
mod delivery;
mod encoded;
mod feed;
mod grant;
mod hub;
mod inner;
mod metrics;
mod pace;
mod ring;
mod snapshot;
mod table_view;
mod token;
mod view;
mod watcher;

pub use feed::StalledFeed;
pub use grant::{Granted, asked, unknown_watch};
pub use hub::{FrameStream, Hub};
pub use inner::HubConfig;
pub use metrics::WatchMetrics;
pub use pace::Pace;
pub use table_view::{Source, TableView};
pub use token::Fingerprint;
pub use view::{Changes, View};
