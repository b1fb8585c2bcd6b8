-- The rule that sends what fails at the pull request of a task to the agent, with what it has sent.
ALTER TABLE tasks ADD COLUMN auto_fix BYTEA NOT NULL DEFAULT '';
