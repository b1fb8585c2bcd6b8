-- Calls whose agent left before the provider told what they used: what is counted for them is a guess.
ALTER TABLE model_usage ADD COLUMN estimated BIGINT NOT NULL DEFAULT 0;
