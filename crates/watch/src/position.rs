//! A consumer's position.

/// Up to where a consumer has seen everything. Store it in the transaction of what was derived.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Revision last applied.
    pub rev: i64,
    /// Token to resume with; empty = none was received yet, the next watch starts with a snapshot.
    pub resume_token: String,
}
