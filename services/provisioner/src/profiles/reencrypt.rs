//! The columns whose secrets are encrypted again after a new key.

use foundry_service::SecretColumn;

use crate::store::agent_profiles::AGENT_PROFILES;
use crate::store::model_providers::MODEL_PROVIDERS;

/// The secrets of model providers and profiles.
pub static SECRETS: [SecretColumn; 2] = [
    SecretColumn {
        service: "provisioner",
        table: &MODEL_PROVIDERS,
        key: "model_provider_id",
        column: "secrets",
        rows: "SELECT model_provider_id, secrets FROM model_providers \
               WHERE secrets IS NOT NULL AND model_provider_id > $1 ORDER BY model_provider_id LIMIT $2",
        bound_to: |row| row.text("model_provider_id").map(str::to_owned),
    },
    SecretColumn {
        service: "provisioner",
        table: &AGENT_PROFILES,
        key: "profile_id",
        column: "secrets",
        rows: "SELECT profile_id, secrets FROM agent_profiles \
               WHERE secrets IS NOT NULL AND profile_id > $1 ORDER BY profile_id LIMIT $2",
        bound_to: |row| row.text("profile_id").map(str::to_owned),
    },
];

#[cfg(test)]
mod tests {
    use foundry_core::ModelProviderId;
    use foundry_secrets::{KeySource, Keys};
    use foundry_service::Reencrypted;

    use super::*;
    use crate::profiles::{ModelAccess, set_up};
    use crate::shared::Shared;
    use crate::store::model_providers;
    use crate::testing::Fixture;
    use crate::testing::profiles::profile_settings;

    /// More than are read at a time.
    const ROWS: usize = 53;

    async fn reencrypt(shared: &Shared) -> foundry_core::Result<Reencrypted> {
        foundry_service::reencrypt(&shared.store, &shared.profiles.keys, &SECRETS).await
    }

    #[tokio::test]
    async fn after_a_new_key_the_older_one_is_not_needed_any_more() {
        let mut f = Fixture::new().await;
        let mut ids = Vec::new();
        for n in 0..ROWS {
            ids.push(f.model_provider(&format!("p{n}"), &format!("sk-canary-{n}")).await.model_provider_id);
        }
        let profile = f.profile(profile_settings("night", "")).await;
        let old = f.dir.path().join("secrets.key");
        let new = f.dir.path().join("new.key");
        let keys = async |sources: &[&std::path::Path]| {
            let sources: Vec<KeySource> = sources.iter().map(|p| KeySource::File((*p).to_owned())).collect();
            Keys::load(&sources, &old, &f.env.env).await.unwrap()
        };
        foundry_secrets::replace_secret_file(&new, &"ab".repeat(32)).unwrap();
        let (both, only_new) = (keys(&[&new, &old]).await, keys(&[&new]).await);
        let install = |f: &mut Fixture, keys: Keys| {
            f.configure(|_| {});
            std::sync::Arc::get_mut(&mut f.shared).unwrap().profiles.keys = keys;
        };
        install(&mut f, both);
        let wanted = Reencrypted { rows: ROWS + 1, unreadable: 0 };
        assert_eq!(reencrypt(&f.shared).await.unwrap(), wanted);
        assert_eq!(reencrypt(&f.shared).await.unwrap(), Reencrypted::default(), "once");
        install(&mut f, only_new);
        for (n, id) in ids.iter().enumerate() {
            let id: ModelProviderId = id.parse().unwrap();
            let found = model_providers::find(&f.shared.store, &id).await.unwrap().unwrap();
            let access = ModelAccess::of(&f.shared, &found).unwrap();
            let key = access.credential.as_ref().unwrap().secret().expose_str().unwrap().to_owned();
            assert_eq!(key, format!("sk-canary-{n}"));
        }
        let set_up = set_up(&f.shared, &f.organization, &profile.profile_id).await.unwrap().unwrap();
        assert_eq!(set_up.environment[0].1.expose_str(), Some("environment-canary-5555"));
    }
}
