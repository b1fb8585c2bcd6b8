-- Whether the task service has stored all events of a closed session: 0 = it has not, 1 = they are to be deleted, 2 = they
-- are deleted.
ALTER TABLE agent_sessions ADD COLUMN released BIGINT NOT NULL DEFAULT 0;
CREATE INDEX agent_sessions_released ON agent_sessions (session_id) WHERE released = 1;
