//! Tokens of a GitHub App: for one repository, for less than they live, and what a host can answer.

use std::sync::Arc;
use std::time::Duration;

use foundry_core::{Clock, Timestamp};
use foundry_forge::{AppInstallation, ForgeErrorKind, Forges, InstallationToken, Result};
use foundry_http_client::NetworkSettings;
use foundry_secrets::Secret;
use foundry_testkit::{APP_KEY, ForgeHost, GitHubApp, test_env};

use crate::forges::{host, place};

/// The app of the stand-in, whose tokens live an hour.
pub fn app(clock: &Arc<dyn Clock>) -> GitHubApp {
    GitHubApp {
        app_id: "Iv23a".to_owned(),
        installation_id: 77,
        repositories: vec!["app".to_owned(), "other".to_owned()],
        expires_at: after(clock, 3600).to_string(),
        is_suspended: false,
    }
}

fn after(clock: &Arc<dyn Clock>, seconds: u64) -> Timestamp {
    clock.now().plus(Duration::from_secs(seconds))
}

/// Asks for a token of an installation.
pub async fn token(
    host: &ForgeHost,
    path: &str,
    app_id: &str,
    installation_id: u64,
) -> Result<InstallationToken> {
    let forges = Arc::new(Forges::new(&NetworkSettings::default()).unwrap());
    let app = AppInstallation { app_id: app_id.to_owned(), installation_id };
    let clock = test_env().env.clock;
    forges.installation_token(&place(host, path), &app, &Secret::new(APP_KEY), clock).await
}

#[tokio::test]
async fn a_token_is_for_one_repository_and_is_used_until_five_minutes_before_its_end() {
    let (host, _dir) = host();
    let clock = test_env().env.clock;
    for (lives, used) in [(3600, 3300), (600, 300), (200, 0), (86_400, 3300)] {
        host.install(GitHubApp { expires_at: after(&clock, lives).to_string(), ..app(&clock) });
        let got = token(&host, "/team/app.git", "Iv23a", 77).await.unwrap();
        assert_eq!(got.use_until, after(&clock, used), "{lives}");
        assert!(got.token.expose_str().unwrap().starts_with("ghs_canary"));
        assert!(!format!("{got:?}").contains("canary"));
    }
    let asked = host.exchanges().pop().unwrap();
    assert_eq!(asked.path, "/api/v3/app/installations/77/access_tokens");
    assert_eq!(asked.body, serde_json::json!({ "repositories": ["app"] }));
}

#[tokio::test]
async fn what_the_host_refuses_keeps_its_words_and_shows_neither_key_nor_signature() {
    let (host, _dir) = host();
    let clock = test_env().env.clock;
    host.install(app(&clock));
    for (path, app_id, installation_id, kind, said) in [
        ("/team/app.git", "other", 77, ForgeErrorKind::CredentialsRefused, "JSON web token"),
        ("/team/app.git", "Iv23a", 78, ForgeErrorKind::NotFound, "Not Found"),
        ("/team/third.git", "Iv23a", 77, ForgeErrorKind::Rejected, "not accessible"),
    ] {
        let e = token(&host, path, app_id, installation_id).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.message().contains(said) && !e.message().contains("eyJ"), "{e}");
    }
    host.install(GitHubApp { is_suspended: true, ..app(&clock) });
    let e = token(&host, "/team/app.git", "Iv23a", 77).await.unwrap_err();
    assert_eq!(e.kind(), ForgeErrorKind::Forbidden);
    for expires_at in ["", "tomorrow", "2026-13-01T00:00:00Z"] {
        host.install(GitHubApp { expires_at: expires_at.to_owned(), ..app(&clock) });
        let e = token(&host, "/team/app.git", "Iv23a", 77).await.unwrap_err();
        assert!(e.kind() == ForgeErrorKind::Unusable && !e.message().contains("canary"), "{e}");
    }
    host.refuse(502, "down");
    let e = token(&host, "/team/app.git", "Iv23a", 77).await.unwrap_err();
    assert_eq!(e.kind(), ForgeErrorKind::Unreachable);
}
