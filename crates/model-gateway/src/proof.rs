//! What a sandbox's forwarder says of itself, so that a token is worthless elsewhere.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName};
use sha2::Sha256;

/// The header that the forwarder adds: `<sandbox>.<instance>.<nonce hex>.<mac hex>`.
pub const HEADER: HeaderName = HeaderName::from_static("x-foundry-sandbox");

const LABEL: &str = "foundry model\0";

/// The claim of one request; believed only after [`SandboxProof::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxProof {
    /// The sandbox.
    pub sandbox: String,
    /// The instance of its runtime.
    pub instance: String,
    nonce: String,
    mac: Vec<u8>,
}

/// The header is there, but it is not one of the forwarder's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl SandboxProof {
    /// Whether this was made with the key of that sandbox's runtime. Takes the same time for every wrong proof.
    pub fn verify(&self, key: &[u8]) -> bool {
        self.keyed(key).is_some_and(|mac| mac.verify_slice(&self.mac).is_ok())
    }

    /// The header's value for a request, as the forwarder makes it.
    pub fn header_value(key: &[u8], sandbox: &str, instance: &str, nonce: &[u8]) -> String {
        let nonce = hex::encode(nonce);
        let claim =
            Self { sandbox: sandbox.to_owned(), instance: instance.to_owned(), nonce, mac: Vec::new() };
        let mac = claim.keyed(key).map(|mac| hex::encode(mac.finalize().into_bytes())).unwrap_or_default();
        format!("{sandbox}.{instance}.{}.{mac}", claim.nonce)
    }

    /// The mac covers the nonce in the very form in which it stands in the header.
    fn keyed(&self, key: &[u8]) -> Option<Hmac<Sha256>> {
        let mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        Some(
            mac.chain_update(LABEL)
                .chain_update(&self.sandbox)
                .chain_update(&self.instance)
                .chain_update(&self.nonce),
        )
    }

    /// From a request's headers; none when it did not come through a forwarder.
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
        let mac = hex::decode(parts.next()?).ok()?;
        let (nonce, instance, sandbox) = (parts.next()?, parts.next()?, parts.next()?);
        let is_nonce = (16..=128).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_hexdigit());
        let named = !sandbox.is_empty() && !instance.is_empty() && sandbox.len() + instance.len() <= 256;
        (is_nonce && named && mac.len() == 32).then(|| Self {
            sandbox: sandbox.to_owned(),
            instance: instance.to_owned(),
            nonce: nonce.to_owned(),
            mac,
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

    #[test]
    fn believes_a_forwarder_with_the_key_and_nobody_else() {
        let value = SandboxProof::header_value(&[7; 32], "sbx_1", "run3", &[9; 32]);
        let proof = read(&[&value]).unwrap().unwrap();
        assert_eq!((proof.sandbox.as_str(), proof.instance.as_str()), ("sbx_1", "run3"));
        assert!(proof.verify(&[7; 32]) && !proof.verify(&[8; 32]));
        let other = read(&[&value.replace("sbx_1", "sbx_2")]).unwrap().unwrap();
        assert!(!other.verify(&[7; 32]));
    }

    #[test]
    fn refuses_what_no_forwarder_sends() {
        let value = SandboxProof::header_value(&[7; 32], "sbx_1", "run3", &[9; 32]);
        assert_eq!(read(&[]), Ok(None));
        for bad in [&["sbx_1"][..], &["a.b.c.d"], &[&value[..value.len() - 2]], &[&value, &value], &["...."]]
        {
            assert_eq!(read(bad), Err(Malformed), "{bad:?}");
        }
    }
}
