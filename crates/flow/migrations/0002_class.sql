-- The kind of a failure stands in a column of its own. What undid stages is gone: no flow of any service did.
ALTER TABLE flows ADD COLUMN class TEXT NOT NULL DEFAULT '';
ALTER TABLE flows DROP COLUMN reached;
ALTER TABLE flows DROP COLUMN unwinding;
ALTER TABLE flows DROP COLUMN cause_stage;
ALTER TABLE flows DROP COLUMN cause_reason;
ALTER TABLE flows DROP COLUMN cause_message;
