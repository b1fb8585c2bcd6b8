-- Whether the remote had the branch of a work before its task; and for a clone, that branch: its task is the owner.
ALTER TABLE works ADD COLUMN existing_branch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clones ADD COLUMN existing_branch TEXT NOT NULL DEFAULT '';
