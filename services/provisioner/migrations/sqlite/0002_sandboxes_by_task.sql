-- The sandboxes a task has had: the next one counts its runtimes on from theirs.
CREATE INDEX sandboxes_by_task ON sandboxes (task_id);
