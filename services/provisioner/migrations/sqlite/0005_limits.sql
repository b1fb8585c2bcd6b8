-- What a sandbox may take of its host and how that is enforced, for people.
ALTER TABLE sandboxes ADD COLUMN limits TEXT NOT NULL DEFAULT '';
-- The limits it has reached, as JSON.
ALTER TABLE sandboxes ADD COLUMN reached_limits TEXT NOT NULL DEFAULT '[]';
