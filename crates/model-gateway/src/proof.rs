//! The forwarder's proof of the sandbox it serves, so that a token is worthless elsewhere.

use foundry_sandbox::RuntimeKey;
use foundry_sandbox::key::same;
use foundry_sandbox::wire::SANDBOX_HEADER;
use http::{HeaderMap, HeaderName};

/// The header that the forwarder adds: `<sandbox>.<instance>.<nonce hex>.<mac hex>`.
pub const HEADER: HeaderName = HeaderName::from_static(SANDBOX_HEADER);

/// The claim of one request; trusted only after [`SandboxProof::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxProof {
    /// Name of the sandbox the token was made for.
    pub sandbox: String,
    /// The instance of its runtime.
    pub instance: String,
    nonce: String,
    mac: String,
}

/// The header is present, but not in the forwarder's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl SandboxProof {
    /// Whether this was made with the key of that sandbox's runtime. Takes constant time for wrong proofs.
    pub fn verify(&self, key: &RuntimeKey) -> bool {
        same(&self.mac, &key.model_proof(&self.sandbox, &self.instance, &self.nonce))
    }

    /// The claim of a forwarder with this key.
    pub fn of(key: &RuntimeKey, sandbox: &str, instance: &str, nonce: &str) -> Self {
        let mac = key.model_proof(sandbox, instance, nonce);
        let (sandbox, instance, nonce) = (sandbox.to_owned(), instance.to_owned(), nonce.to_owned());
        Self { sandbox, instance, nonce, mac }
    }

    /// The header's value for a request, as the forwarder makes it.
    pub fn header_value(key: &RuntimeKey, sandbox: &str, instance: &str, nonce: &str) -> String {
        format!("{sandbox}.{instance}.{nonce}.{}", key.model_proof(sandbox, instance, nonce))
    }

    /// From a request's headers; `None` when it did not come through a forwarder.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Malformed> {
        let mut found = headers.get_all(HEADER).iter();
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().ok().and_then(Self::parse).map(Some).ok_or(Malformed),
            (Some(_), Some(_)) => Err(Malformed),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(4, '.');
        let mac = parts.next()?;
        let (nonce, instance, sandbox) = (parts.next()?, parts.next()?, parts.next()?);
        let is_nonce = (16..=128).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_hexdigit());
        let named = !sandbox.is_empty() && !instance.is_empty() && sandbox.len() + instance.len() <= 256;
        let is_mac = mac.len() == 64 && mac.bytes().all(|b| b.is_ascii_hexdigit());
        (is_nonce && named && is_mac).then(|| Self {
            sandbox: sandbox.to_owned(),
            instance: instance.to_owned(),
            nonce: nonce.to_owned(),
            mac: mac.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<SandboxProof>, Malformed> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        SandboxProof::from_headers(&headers)
    }

    fn key() -> RuntimeKey {
        RuntimeKey::generate(&foundry_core::Env::system())
    }

    #[test]
    fn believes_a_forwarder_with_the_key_and_nobody_else() {
        let (ours, other) = (key(), key());
        let value = SandboxProof::header_value(&ours, "sbx_1", "run3", &"9".repeat(64));
        let proof = read(&[&value]).unwrap().unwrap();
        assert_eq!((proof.sandbox.as_str(), proof.instance.as_str()), ("sbx_1", "run3"));
        assert!(proof.verify(&ours) && !proof.verify(&other));
        let moved = read(&[&value.replace("sbx_1", "sbx_2")]).unwrap().unwrap();
        assert!(!moved.verify(&ours));
    }

    #[test]
    fn refuses_what_no_forwarder_sends() {
        let value = SandboxProof::header_value(&key(), "sbx_1", "run3", &"9".repeat(64));
        assert_eq!(read(&[]), Ok(None));
        for bad in [&["sbx_1"][..], &["a.b.c.d"], &[&value[..value.len() - 2]], &[&value, &value], &["...."]]
        {
            assert_eq!(read(bad), Err(Malformed), "{bad:?}");
        }
    }
}
