//! ID tokens: what is refused before any library looks at them, and their verification.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use foundry_core::Timestamp;
use openidconnect::core::{CoreIdToken, CoreIdTokenClaims, CoreIdTokenVerifier, CoreJwsSigningAlgorithm};
use openidconnect::{ClientId, Nonce};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::openid::Documents;

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 << 10;
/// The names that a header may have. `jku`, `jwk`, `x5u` and `x5c` name keys that the token brings along, `crit` and
/// `b64` change what is signed.
const HEADER: [&str; 5] = ["alg", "kid", "typ", "x5t", "x5t#S256"];
const MAX_KEY_ID: usize = 256;
/// Farthest end of a token that is plausible; a session does not depend on it.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Oldest and newest beginning, as clocks differ.
const OLDEST: Duration = Duration::from_secs(15 * 60);
const LEEWAY: Duration = Duration::from_secs(60);

/// The signature algorithms that count, if the provider has them too: asymmetric ones.
const ALGORITHMS: [(&str, CoreJwsSigningAlgorithm); 3] = [
    ("RS256", CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256),
    ("ES256", CoreJwsSigningAlgorithm::EcdsaP256Sha256),
    ("EdDSA", CoreJwsSigningAlgorithm::EdDsa),
];

/// A token whose form is sound; nothing in it is true yet.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    token: &'a str,
    /// Id of the key that it claims to be signed with; empty without one.
    pub(crate) key_id: String,
    payload: Map<String, Value>,
}

/// A verified token.
pub(crate) struct Verified {
    /// What it says about the user.
    pub(crate) claims: CoreIdTokenClaims,
    /// All claims, also those that no standard names.
    pub(crate) all: Map<String, Value>,
}

impl<'a> Unverified<'a> {
    /// Looks at the form of a token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(token: &'a str) -> Result<Self, String> {
        if token.len() > MAX_TOKEN {
            return Err(format!("it is longer than {MAX_TOKEN} bytes"));
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { return Err("it has not three parts".to_owned()) };
        if signature.is_empty() {
            return Err("it is not signed".to_owned());
        }
        let (header, payload) = (object(header)?, object(payload)?);
        if let Some(name) = header.keys().find(|name| !HEADER.contains(&name.as_str())) {
            return Err(format!("its header has `{}`", name.escape_debug()));
        }
        let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
        if !ALGORITHMS.iter().any(|(name, _)| *name == algorithm) {
            return Err(format!("its algorithm is `{}`", algorithm.escape_debug()));
        }
        let key_id = match header.get("kid") {
            None => String::new(),
            Some(Value::String(id)) if is_key_id(id) => id.clone(),
            Some(_) => return Err("its key id has an unexpected form".to_owned()),
        };
        Ok(Self { token, key_id, payload })
    }

    /// Verifies signature, issuer, audience, nonce and times.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn verify(
        self,
        provider: &Documents,
        client_id: &str,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Verified, String> {
        for claim in ["exp", "iat"] {
            if !self.payload.get(claim).is_some_and(Value::is_i64) {
                return Err(format!("its `{claim}` is no whole number of seconds"));
            }
        }
        let at = |micros: i64| DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
        let expiry = self.payload.get("exp").and_then(Value::as_i64).unwrap_or_default();
        if expiry > now.plus(LONGEST).as_micros() / 1_000_000 {
            return Err("it is valid for longer than a day".to_owned());
        }
        let (oldest, newest) = (at(now.minus(OLDEST).as_micros()), at(now.plus(LEEWAY).as_micros()));
        let ours = provider.id_token_signing_alg_values_supported();
        let allowed = ALGORITHMS.iter().filter(|(_, a)| ours.contains(a)).map(|(_, a)| a.clone());
        let client = ClientId::new(client_id.to_owned());
        let verifier = CoreIdTokenVerifier::new_public_client(
            client,
            provider.issuer().clone(),
            provider.jwks().clone(),
        )
        .set_allowed_algs(allowed)
        .set_time_fn(move || at(now.minus(LEEWAY).as_micros()))
        .set_issue_time_verifier_fn(move |issued| {
            if issued < oldest || issued > newest {
                Err("it was not issued just now".to_owned())
            } else {
                Ok(())
            }
        });
        let token = CoreIdToken::from_str(self.token).map_err(|e| format!("it cannot be read: {e}"))?;
        let claims =
            token.into_claims(&verifier, &Nonce::new(nonce.to_owned())).map_err(|e| e.to_string())?;
        // Somebody else's application must not have been the one it was made for.
        let for_us = self.payload.get("azp").is_none_or(|azp| azp.as_str() == Some(client_id));
        if for_us {
            Ok(Verified { claims, all: self.payload })
        } else {
            Err("it is for another application".to_owned())
        }
    }
}

/// A key id is compared and never a path; still, what looks like one is no key id.
fn is_key_id(id: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'=' | b'+' | b':');
    !id.is_empty() && id.len() <= MAX_KEY_ID && id.bytes().all(legal) && !id.contains("..")
}

fn object(part: &str) -> Result<Map<String, Value>, String> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| "it is not base64url".to_owned())?;
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let value = Strict.deserialize(&mut json).map_err(|e| format!("it is no JSON: {e}"))?;
    json.end().map_err(|_| "it has something behind its JSON".to_owned())?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err("it is no JSON object".to_owned()),
    }
}

/// Reads JSON in which no name occurs twice: readers differ in which of the two they take.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let (mut map, mut names) = (Map::new(), HashSet::new());
        while let Some(name) = entries.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom("a name occurs twice"));
            }
            map.insert(name, entries.next_value_seed(Strict)?);
        }
        Ok(Value::Object(map))
    }
}
