-- Whether the remote had the branch of a sandbox before its task.
ALTER TABLE sandboxes ADD COLUMN existing_branch BIGINT NOT NULL DEFAULT 0;
