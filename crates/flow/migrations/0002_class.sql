-- The kind of a failure stands in a column of its own. What undid stages is gone; its columns stay until no process of
-- an older version can run beside this schema any more.
ALTER TABLE flows ADD COLUMN class TEXT NOT NULL DEFAULT '';
