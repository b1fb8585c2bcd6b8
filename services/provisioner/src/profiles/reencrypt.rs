//! Encrypts secrets of older keys with the first key, so that the older keys can be removed.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::Error;
use foundry_secrets::Sealed;
use foundry_store::{Store, Table, Value, WriteSet};

use super::vault::column;
use crate::shared::Shared;
use crate::store::agent_profiles::AGENT_PROFILES;
use crate::store::model_providers::MODEL_PROVIDERS;

/// Rows per read and write, so that other writers are not held up.
const ROWS: usize = 50;
/// Pause after a failure of the database.
const AGAIN: Duration = Duration::from_secs(60);

const TABLES: [(&Table, &str, &str); 2] = [
    (
        &MODEL_PROVIDERS,
        "model_provider_id",
        "SELECT model_provider_id AS id, secrets FROM model_providers \
         WHERE secrets IS NOT NULL AND model_provider_id > $1 ORDER BY model_provider_id LIMIT $2",
    ),
    (
        &AGENT_PROFILES,
        "profile_id",
        "SELECT profile_id AS id, secrets FROM agent_profiles \
         WHERE secrets IS NOT NULL AND profile_id > $1 ORDER BY profile_id LIMIT $2",
    ),
];

/// The result of a pass over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reencrypted {
    /// Rows that were encrypted with the first key.
    pub rows: usize,
    /// Rows that no configured key decrypts; they stay as they are.
    pub unreadable: usize,
}

/// Encrypts all rows with the first key, once; tries again while the database fails.
pub async fn reencrypt_at_start(shared: Arc<Shared>) {
    loop {
        match reencrypt(&shared).await {
            Ok(Reencrypted { rows: 0, unreadable: 0 }) => return,
            Ok(done) => {
                tracing::info!(
                    rows = done.rows,
                    unreadable = done.unreadable,
                    "secrets of model providers and profiles are encrypted with the first key; if none is unreadable, \
                     the older keys can be removed"
                );
                return;
            }
            Err(e) => {
                tracing::warn!(error = %e, "secrets under an older key were not re-encrypted; retrying later")
            }
        }
        tokio::select! {
            () = shared.tasks.cancellation().cancelled() => return,
            () = shared.env.clock.sleep(AGAIN) => {}
        }
    }
}

/// Encrypts all rows with the first key.
///
/// # Errors
/// When the database fails; rows written before that stay.
pub async fn reencrypt(shared: &Shared) -> Result<Reencrypted, Error> {
    let mut done = Reencrypted::default();
    for (table, key, rows) in TABLES {
        let mut after = String::new();
        loop {
            let (seen, last) = some(shared, (table, key, rows), &after, &mut done).await?;
            let Some(last) = last.filter(|_| seen == ROWS) else { break };
            after = last;
        }
    }
    Ok(done)
}

/// Handles the next rows of a table. Returns how many there were, and the id of the last one.
async fn some(
    shared: &Shared,
    (table, key, rows): (&'static Table, &'static str, &'static str),
    after: &str,
    done: &mut Reencrypted,
) -> Result<(usize, Option<String>), Error> {
    let store: &Store = &shared.store;
    let found = store.query(rows, &[after.into(), i64::try_from(ROWS).unwrap_or(i64::MAX).into()]).await?;
    let (mut ws, mut changed, mut last) = (WriteSet::new(), 0, None);
    for row in &found {
        let id = row.text("id")?.to_owned();
        let old = row.blob("secrets")?;
        let sealed = Sealed::from_bytes(old.as_ref());
        if shared.profiles.keys.needs_reencryption(&sealed) {
            match shared.profiles.keys.reencrypt(column(table, &id), &sealed) {
                Ok(new) => {
                    // A row that has changed since is encrypted with the first key already.
                    let new: Value = new.as_bytes().to_vec().into();
                    let unchanged = [(key, id.as_str().into()), ("secrets", old.into())];
                    ws.update_where(table, &unchanged, &[("secrets", new)]);
                    changed += 1;
                }
                Err(e) => {
                    tracing::warn!(row = id, error = %e, "a secret cannot be re-encrypted");
                    done.unreadable += 1;
                }
            }
        }
        last = Some(id);
    }
    if changed > 0 {
        store.commit(ws).await?;
    }
    done.rows += changed;
    Ok((found.len(), last))
}

#[cfg(test)]
mod tests {
    use foundry_core::ModelProviderId;
    use foundry_secrets::{KeySource, Keys};

    use super::*;
    use crate::profiles::{ModelAccess, set_up};
    use crate::store::model_providers;
    use crate::testing::Fixture;
    use crate::testing::profiles::profile_settings;

    #[tokio::test]
    async fn after_a_new_key_the_older_one_is_not_needed_any_more() {
        let mut f = Fixture::new().await;
        let mut ids = Vec::new();
        for n in 0..ROWS + 3 {
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
        let wanted = Reencrypted { rows: ROWS + 4, unreadable: 0 };
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
