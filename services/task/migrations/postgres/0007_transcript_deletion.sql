-- Whether the transcripts of a killed task are kept (0), being deleted (1), or deleted (2).
ALTER TABLE tasks ADD COLUMN transcript_deletion BIGINT NOT NULL DEFAULT 0;
CREATE INDEX tasks_with_old_transcripts ON tasks (lifecycle_time)
    WHERE lifecycle = 'killed' AND transcript_deletion < 2;
