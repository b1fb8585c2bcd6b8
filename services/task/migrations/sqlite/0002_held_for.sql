-- The interrupted turn for which a session's queue was held last.
ALTER TABLE sessions ADD COLUMN held_for TEXT NOT NULL DEFAULT '';
