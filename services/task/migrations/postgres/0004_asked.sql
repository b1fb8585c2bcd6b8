-- What was asked of a session and is not yet seen at the agent's side, JSON.
ALTER TABLE sessions ADD COLUMN asked TEXT NOT NULL DEFAULT '{}';
