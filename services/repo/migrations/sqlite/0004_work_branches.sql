-- The branch of the task, under which its work can be fetched; empty = imported before this was recorded.
ALTER TABLE works ADD COLUMN branch TEXT NOT NULL DEFAULT '';
