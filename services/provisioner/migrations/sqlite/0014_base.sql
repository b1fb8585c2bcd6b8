-- The commit that a sandbox started from, and how new it was (foundry.common.v1.Base); none before it is cloned.
ALTER TABLE sandboxes ADD COLUMN base BLOB;
