-- The files sent with a message, encoded as a message of the wire; empty = none.
ALTER TABLE messages ADD COLUMN attachments BLOB NOT NULL DEFAULT x'';
