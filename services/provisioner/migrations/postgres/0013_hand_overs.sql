-- When the last hand-over began whose work was sent, the notices that were sent with it, and why newer work is not saved.
ALTER TABLE sandboxes ADD COLUMN work_sent_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN work_notices BYTEA NOT NULL DEFAULT '';
ALTER TABLE sandboxes ADD COLUMN work_not_saved BYTEA NOT NULL DEFAULT '';
