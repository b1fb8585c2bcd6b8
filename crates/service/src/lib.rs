//! The chassis of a service: what every service does around its subject, written once. It opens the database, watches
//! over its writer, starts the flow engine and the hub, and stops them in order.

mod database;
mod phases;

pub use database::Database;
pub use phases::{finish_flows, phases};
