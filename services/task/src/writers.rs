//! One writer per task at a time within this process, so that writers of a busy task do not keep invalidating each
//! other. An optimization only: the fence in the row guarantees correctness.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use foundry_core::TaskId;
use tokio::sync::OwnedMutexGuard;

type Turn = tokio::sync::Mutex<()>;

/// One lock per task that is being written.
#[derive(Default)]
pub struct Writers(Mutex<HashMap<TaskId, Weak<Turn>>>);

impl Writers {
    /// Waits for the lock to load, decide and write a task; it is released when the guard is dropped.
    pub async fn turn(&self, task: &TaskId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = foundry_core::lock(&self.0);
            if let Some(turn) = turns.get(task).and_then(Weak::upgrade) {
                turn
            } else {
                turns.retain(|_, turn| turn.strong_count() > 0);
                let turn = Arc::new(Turn::default());
                turns.insert(task.clone(), Arc::downgrade(&turn));
                turn
            }
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use foundry_core::Env;
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn gives_one_turn_per_task_at_a_time_and_forgets_tasks_that_nobody_writes() {
        let (writers, env) = (Writers::default(), Env::system());
        let (one, other) = (TaskId::generate(&env), TaskId::generate(&env));
        let first = writers.turn(&one).await;
        assert!(writers.turn(&one).now_or_never().is_none());
        drop(writers.turn(&other).now_or_never().expect("another task's turn is free"));
        drop(first);
        let again = writers.turn(&one).now_or_never().expect("the turn is free again");
        drop(again);
        drop(writers.turn(&TaskId::generate(&env)).await);
        assert_eq!(writers.0.lock().unwrap().len(), 1);
    }
}
