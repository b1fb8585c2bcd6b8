-- Whether the provisioner was asked to delete its copy of a session's events, after the end of the task.
ALTER TABLE sessions ADD COLUMN released BIGINT NOT NULL DEFAULT 0;
CREATE INDEX sessions_unreleased ON sessions (session_id) WHERE released = 0;
