-- Signals name the key alone, since neither database compares a parameter with the condition of a partial index. The flows of
-- an entity are read from the newest on.
CREATE INDEX flows_by_wait_key ON flows (wait_key) WHERE wait_key IS NOT NULL;
CREATE INDEX flows_by_subject ON flows (subject_id, started_time);
DROP INDEX flows_subject;
