//! Returns from a provider that are not what they seem: swapped, repeated, planted, or from another sender.

use foundry_proto::auth::v1::GetSignInRequest;

use super::*;

#[tokio::test]
async fn a_swapped_or_repeated_return_has_no_effect() {
    let c = Case::github().await;
    c.set_up().await;
    let before = c.let_in().await;
    c.host.sign_in(Person { groups: vec!["acme".into()], ..person(2, "ada") });
    let (mine, other) = (c.begin(c.ask()).await.unwrap(), c.begin(c.ask()).await.unwrap());
    let good = c.back(&mine);
    let attack = |change: &dyn Fn(&mut ReceiveSignInRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    for (request, expected) in [
        (attack(&|r| r.state = "x".repeat(43)), "SIGN_IN_UNKNOWN"),
        (attack(&|r| r.state.clear()), "SIGN_IN_UNKNOWN"),
        (attack(&|r| r.state = "x".repeat(5 << 20)), "SIGN_IN_UNKNOWN"),
        (attack(&|r| r.browser_binding.clear()), "SIGN_IN_OTHER_BROWSER"),
        (attack(&|r| r.browser_binding = other.browser_binding.clone()), "SIGN_IN_OTHER_BROWSER"),
        (attack(&|r| r.provider = "google".into()), "SIGN_IN_PROVIDER_WRONG"),
        (attack(&|r| r.issuer = "https://evil.example".into()), "SIGN_IN_PROVIDER_WRONG"),
    ] {
        assert_eq!(reason(c.receive(request).await), expected);
    }
    assert_eq!(reason(c.claim(&mine.sign_in_id, &mine.claim).await), "SIGN_IN_UNKNOWN");
    assert_eq!(c.let_in().await, before);
    c.receive(good.clone()).await.unwrap();
    assert_eq!(reason(c.receive(good).await), "SIGN_IN_USED");
    assert_eq!(reason(c.claim(&mine.sign_in_id, &other.claim).await), "SIGN_IN_UNKNOWN", "another page");
    assert!(c.claim(&mine.sign_in_id, &mine.claim).await.is_ok());
    assert_eq!(reason(c.claim(&mine.sign_in_id, &mine.claim).await), "SIGN_IN_USED");
}

#[tokio::test]
async fn who_began_and_lent_the_browser_of_another_the_cookie_opens_no_session() {
    let c = Case::github().await;
    c.set_up().await;
    // A program on another port begins twice, comes back once itself, and plants the other cookie in a user's browser.
    let (own, planted) = (c.begin(c.ask()).await.unwrap(), c.begin(c.ask()).await.unwrap());
    c.receive(c.back(&own)).await.unwrap();
    c.receive(c.back(&planted)).await.unwrap();
    let secret = |id: &str| c.returned.lock().unwrap()[id].clone();
    let (own_secret, users_secret) = (secret(&own.sign_in_id), secret(&planted.sign_in_id));
    for guess in ["", &planted.claim, &planted.browser_binding, &own_secret] {
        let opened = c.claim_with(&planted.sign_in_id, &planted.claim, guess).await;
        assert_eq!(reason(opened), "SIGN_IN_UNKNOWN", "the claim alone shows only who began");
        let ask =
            GetSignInRequest { sign_in_id: planted.sign_in_id.clone(), return_secret: guess.to_owned() };
        assert_eq!(reason(ops::get_sign_in::get_sign_in(&c.f.auth, ask).await), "SIGN_IN_UNKNOWN");
    }
    // The user's page has the secret of the return and no claim.
    assert_eq!(reason(c.claim_with(&planted.sign_in_id, "", &users_secret).await), "SIGN_IN_UNKNOWN");
    assert!(c.claim_with(&planted.sign_in_id, &planted.claim, &users_secret).await.is_ok(), "both together");
}

#[tokio::test]
async fn the_code_of_another_sign_in_is_worth_nothing() {
    let c = Case::github().await;
    c.set_up().await;
    let (mine, other) = (c.begin(c.ask()).await.unwrap(), c.begin(c.ask()).await.unwrap());
    let swapped = ReceiveSignInRequest { code: c.back(&other).code, ..c.back(&mine) };
    c.receive(swapped).await.unwrap();
    assert_eq!(reason(c.claim(&mine.sign_in_id, &mine.claim).await), "SIGN_IN_CODE_REFUSED", "PKCE");
}

#[tokio::test]
async fn no_sign_in_begins_whose_secrets_would_pass_in_the_clear() {
    let c = Case::github().await;
    let to = |address: &str| BeginSignInRequest { redirect_uri: address.to_owned(), ..c.as_first_owner() };
    for address in ["http://foundry.corp/auth/callback/github", "ftp://127.0.0.1/", "callback"] {
        assert_eq!(reason(c.begin(to(address)).await), "PUBLIC_URL_UNSAFE", "{address}");
    }
    for address in ["https://foundry.corp/auth/callback/github", "http://localhost:7100/auth/callback/github"]
    {
        assert!(c.begin(to(address)).await.is_ok(), "{address}");
    }
}

#[tokio::test]
async fn a_return_without_a_sender_is_refused_where_the_provider_promised_one() {
    let c = Case::openid().await;
    let begun = c.begin(c.ask()).await.unwrap();
    assert_eq!(reason(c.receive(c.back(&begun)).await), "OK", "most promise none");
    c.host.name_itself();
    c.f.clock.advance(Duration::from_secs(3_700));
    jobs::refresh_providers::run(c.f.auth.clone()).await.unwrap();
    let begun = c.begin(c.ask()).await.unwrap();
    let named = c.back(&begun);
    assert_eq!(named.issuer, c.host.origin());
    let silent = ReceiveSignInRequest { issuer: String::new(), ..named.clone() };
    assert_eq!(reason(c.receive(silent).await), "SIGN_IN_PROVIDER_WRONG");
    assert_eq!(reason(c.receive(named).await), "OK");
}
