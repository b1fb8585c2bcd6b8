-- Encoded bytes of a session's events that are stored, and of what its agent said and did that was not stored because
-- of a limit.
ALTER TABLE agent_sessions ADD COLUMN stored_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE agent_sessions ADD COLUMN left_out_bytes BIGINT NOT NULL DEFAULT 0;
-- For the sums of all tasks, without the rows themselves.
CREATE INDEX agent_sessions_stored ON agent_sessions (organization_id, task_id, stored_bytes) WHERE stored_bytes > 0;
