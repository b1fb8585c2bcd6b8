//! GetSigningKeys: every key whose tokens may be valid, including those not yet in use.

use foundry_authn::KeySource as _;
use foundry_core::Result;
use foundry_proto::auth::v1::GetSigningKeysResponse;

use crate::auth::Auth;

pub(crate) async fn get_signing_keys(auth: &Auth) -> Result<GetSigningKeysResponse> {
    Ok(GetSigningKeysResponse { keys: auth.published.keys().await? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use foundry_authn::ServiceIdentity;

    use super::*;
    use crate::testing::Fixture;

    #[tokio::test]
    async fn shows_its_own_keys_and_those_of_services_that_come_later() {
        let f = Fixture::new().await;
        let issuers = async || -> Vec<_> {
            get_signing_keys(&f.auth).await.unwrap().keys.into_iter().map(|k| k.issuer).collect()
        };
        assert_eq!(issuers().await, ["auth"]);
        let keys = f.dir.path().join("keys");
        let task = ServiceIdentity::load_or_create(&keys, "task", &f.auth.env).unwrap();
        f.clock.advance(Duration::from_secs(1));
        assert_eq!(issuers().await, ["auth", "service:task"]);
        let listed = get_signing_keys(&f.auth).await.unwrap().keys;
        assert_eq!(
            (&listed[1].key_id, &listed[1].public_key),
            (&task.published().key_id, &task.published().public_key)
        );
    }
}
