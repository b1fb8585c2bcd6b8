//! The chassis of a service: everything around its subject, written once. It opens the database, supervises its writer,
//! starts the flow engine and the hub, serves its rpcs and watches from one table, and stops in order.

mod assembly;
mod command;
mod damage;
mod database;
mod notice;
mod phases;
pub mod proofs;
mod reencryption;
mod rpc;
mod storage;
mod upstream;

pub use assembly::{on_database, served};
pub use command::{MAX_REQUEST_ID, RequestKey, audit, audit_as, with_detail};
pub use damage::{
    Damage, Stored, damaged_condition, damaged_name, readable, readable_rows, stored_condition, stored_part,
    transcript_part,
};
pub use database::Database;
pub use notice::{
    MAX_FILE, is_only_in_sandbox, merged_words, notice_words, publication_words, pull_request_words,
};
pub use phases::finish_flows;
pub use reencryption::{Reencrypted, SecretColumn, reencrypt, reencrypt_at_start};
pub use rpc::{WatchStream, answer, method_of, open_watch};
pub use upstream::{reason_of, retry_after_of};
