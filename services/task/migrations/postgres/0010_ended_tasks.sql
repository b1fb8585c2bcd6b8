-- Whether the events of all sessions of an ended task have been released: those that have not are looked up by the task,
-- so that the sessions of living tasks are not read.
ALTER TABLE tasks ADD COLUMN events_released BIGINT NOT NULL DEFAULT 0;
CREATE INDEX tasks_unreleased ON tasks (task_id) WHERE lifecycle IN ('archived', 'killed') AND events_released = 0;
DROP INDEX sessions_unreleased;
