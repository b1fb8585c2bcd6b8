-- The sandbox that was given a clone last. A clone and a deletion both write it, so that of two at the same moment one waits
-- for the other, in whichever processes they are.
ALTER TABLE repositories ADD COLUMN clone_mark TEXT NOT NULL DEFAULT '';
