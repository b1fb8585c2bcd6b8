//! A consumer's position.

/// The position up to which a consumer has seen everything. Store it in the same transaction as the derived data.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The revision that was last applied.
    pub rev: i64,
    /// Token to resume with; empty = none was received yet, and the next watch starts with a snapshot.
    pub resume_token: String,
}
