//! The chassis of a service: what every service does around its subject, written once. It opens the database, watches
//! over its writer, starts the flow engine and the hub, and stops them in order.

mod command;
mod database;
mod phases;

pub use command::{MAX_REQUEST_ID, RequestKey, audit, audit_as, with_detail};
pub use database::Database;
pub use phases::{finish_flows, phases};
