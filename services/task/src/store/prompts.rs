//! Table `task_prompts`: the whole first prompt of each task.

use foundry_core::{Result, TaskId};
use foundry_store::{Store, Table, WriteSet};

pub const PROMPTS: Table = Table::new("task_prompts", &["task_id", "prompt"], &["task_id"]);

/// Stores the prompt of a new task.
pub fn insert(ws: &mut WriteSet, task: &TaskId, prompt: &str) {
    ws.insert(&PROMPTS, [task.into(), prompt.into()]);
}

/// The prompt of a task.
pub async fn find(store: &Store, task: &TaskId) -> Result<Option<String>> {
    const SQL: &str = "SELECT prompt FROM task_prompts WHERE task_id = $1";
    let rows = store.query(SQL, &[task.into()]).await?;
    rows.first().map(|r| Ok(r.text("prompt")?.to_owned())).transpose()
}
