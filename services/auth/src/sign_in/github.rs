//! Who somebody is at GitHub, and to which of the allowed organizations and teams they belong.

use foundry_core::{Error, Result};
use oauth2::{AsyncHttpClient as _, HttpRequest, HttpResponse};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::Http;
use super::{refused_code, unreachable};
use crate::domain::account::{Identified, plain_text};

/// What is read from GitHub, with the user's own token.
pub(crate) struct GitHub<'a> {
    pub(crate) http: &'a Http,
    /// Scheme and host of its pages: who vouches for the account.
    pub(crate) origin: &'a str,
    pub(crate) api: &'a str,
    pub(crate) token: &'a str,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
    #[serde(default)]
    avatar_url: String,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

#[derive(Deserialize)]
struct Membership {
    state: String,
}

impl GitHub<'_> {
    /// Reads the account, its verified main address, and which of these organizations and teams it is in.
    ///
    /// # Errors
    /// `UNAVAILABLE` when GitHub does not answer, `UNAUTHENTICATED` when it refuses the token.
    pub(crate) async fn identify(&self, organizations: &[String], teams: &[String]) -> Result<Identified> {
        let user: User =
            self.get("/user").await?.ok_or_else(|| refused_code("the token shows no account"))?;
        let emails: Vec<Email> = self.get("/user/emails?per_page=100").await?.unwrap_or_default();
        let email = emails.into_iter().find(|email| email.primary && email.verified);
        let mut groups = Vec::new();
        for name in organizations {
            if self.is_active(&format!("/user/memberships/orgs/{name}")).await? {
                groups.push(name.clone());
            }
        }
        for name in teams {
            let Some((organization, team)) = name.split_once('/') else { continue };
            let path = format!("/orgs/{organization}/teams/{team}/memberships/{}", path_part(&user.login)?);
            if self.is_active(&path).await? {
                groups.push(name.clone());
            }
        }
        Ok(Identified {
            issuer: self.origin.to_owned(),
            subject: user.id.to_string(),
            login: plain_text(&user.login),
            display_name: plain_text(&user.name.unwrap_or_default()),
            email: email.map(|email| plain_text(&email.email)).unwrap_or_default(),
            picture_url: plain_text(&user.avatar_url),
            groups,
        })
    }

    async fn is_active(&self, path: &str) -> Result<bool> {
        Ok(self.get::<Membership>(path).await?.is_some_and(|membership| membership.state == "active"))
    }

    /// The answer to a call; none where GitHub shows nothing to this token.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>> {
        let request = oauth2::http::Request::get(format!("{}{path}", self.api))
            .header("accept", "application/vnd.github+json")
            .header("authorization", format!("Bearer {}", self.token))
            .body(Vec::new());
        let request: HttpRequest = request.map_err(Error::internal)?;
        let answer = self.http.call(request).await.map_err(|e| unreachable(&e.to_string()))?;
        shown(path, &answer)
    }
}

/// What an answer shows; none where GitHub shows nothing to this token.
fn shown<T: DeserializeOwned>(path: &str, answer: &HttpResponse) -> Result<Option<T>> {
    match answer.status().as_u16() {
        200 => serde_json::from_slice(answer.body())
            .map(Some)
            .map_err(|e| unreachable(&format!("its answer cannot be read: {e}"))),
        401 => Err(refused_code("GitHub refuses the token")),
        // GitHub says in this way too that it takes no more calls for now, which says nothing about the user.
        403 if is_throttled(answer) => Err(unreachable("it takes no more calls for now")),
        403 => {
            tracing::warn!(
                path = %path.escape_debug(),
                "GitHub refuses to show a membership; its organization may have to approve the OAuth application"
            );
            Ok(None)
        }
        404 => Ok(None),
        status => Err(unreachable(&format!("it answered with status {status}"))),
    }
}

fn is_throttled(answer: &HttpResponse) -> bool {
    let headers = answer.headers();
    headers.contains_key("retry-after")
        || headers.get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0")
}

/// A login as a part of a path; GitHub's own have no other characters.
fn path_part(login: &str) -> Result<&str> {
    let plain = login.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if plain && !login.is_empty() {
        Ok(login)
    } else {
        Err(refused_code("the account's login has an unexpected form"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_for_too_many_calls_says_nothing_about_a_membership() {
        let shown = |status: u16, headers: &[(&'static str, &'static str)]| {
            let mut answer = HttpResponse::new(br#"{"state":"active"}"#.to_vec());
            *answer.status_mut() = status.try_into().unwrap();
            for (name, value) in headers {
                answer.headers_mut().insert(*name, value.parse().unwrap());
            }
            let shown = shown::<Membership>("/user/memberships/orgs/acme", &answer);
            shown.map_or_else(|e| e.reason(), |it| if it.is_some() { "shown" } else { "hidden" })
        };
        assert_eq!(shown(200, &[("x-ratelimit-remaining", "0")]), "shown");
        assert_eq!(shown(404, &[]), "hidden");
        assert_eq!(shown(403, &[("x-ratelimit-remaining", "4999")]), "hidden");
        for (status, headers) in [
            (403, [("x-ratelimit-remaining", "0")]),
            (403, [("retry-after", "60")]),
            (429, [("retry-after", "60")]),
            (500, [("server", "github.com")]),
        ] {
            assert_eq!(shown(status, &headers), "SIGN_IN_PROVIDER_UNREACHABLE", "{status} {headers:?}");
        }
        assert_eq!(shown(401, &[]), "SIGN_IN_CODE_REFUSED");
    }
}
