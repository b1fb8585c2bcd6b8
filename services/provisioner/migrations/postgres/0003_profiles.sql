-- Where models are served. `view` is what people see; `secrets` is encrypted, NULL when there are none.
CREATE TABLE model_providers (
    model_provider_id TEXT   NOT NULL PRIMARY KEY,
    organization_id   TEXT   NOT NULL,
    name              TEXT   NOT NULL,
    view              BYTEA  NOT NULL,
    secrets           BYTEA,
    rev               BIGINT NOT NULL
);
CREATE UNIQUE INDEX model_providers_by_name ON model_providers (organization_id, name);

-- How agents are set up. `model_provider_id` is empty for an agent without a model.
CREATE TABLE agent_profiles (
    profile_id        TEXT   NOT NULL PRIMARY KEY,
    organization_id   TEXT   NOT NULL,
    name              TEXT   NOT NULL,
    model_provider_id TEXT   NOT NULL,
    is_default        BIGINT NOT NULL,
    view              BYTEA  NOT NULL,
    secrets           BYTEA,
    rev               BIGINT NOT NULL
);
CREATE UNIQUE INDEX agent_profiles_by_name ON agent_profiles (organization_id, name);
-- An organization has at most one default.
CREATE UNIQUE INDEX agent_profiles_default ON agent_profiles (organization_id) WHERE is_default = 1;
CREATE INDEX agent_profiles_by_provider ON agent_profiles (model_provider_id);

-- The profile that sandboxes and sessions were made with; empty = none.
ALTER TABLE sandboxes ADD COLUMN profile_id TEXT NOT NULL DEFAULT '';
ALTER TABLE agent_sessions ADD COLUMN profile_id TEXT NOT NULL DEFAULT '';
