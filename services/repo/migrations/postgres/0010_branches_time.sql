-- When a synchronization last found other branches; 0 = not known.
ALTER TABLE repositories ADD COLUMN branches_time BIGINT NOT NULL DEFAULT 0;
