-- Deliveries of a webhook whose signature was wrong: how many, and when and from which address the last recorded one came.
ALTER TABLE repository_webhooks ADD COLUMN refused_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repository_webhooks ADD COLUMN refused_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE repository_webhooks ADD COLUMN refused_address TEXT NOT NULL DEFAULT '';
