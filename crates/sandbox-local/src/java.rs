//! A certificate store for Java, which cannot read PEM: a key store in Java's own old format (JKS), which every Java
//! reads and which needs nothing but a hash.

use sha1::{Digest as _, Sha1};

/// The default of `keytool` and of other programs; it protects nothing, since all contents are public.
const PASSWORD: &str = "changeit";
const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
/// The tag of a trusted entry, as opposed to one with a private key.
const TRUSTED: u32 = 2;

/// A store that trusts these certificates, in DER.
pub(crate) fn trust_store<C: AsRef<[u8]>>(certificates: &[C]) -> Vec<u8> {
    let mut out = Vec::new();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(MAGIC.to_be_bytes());
    out.extend(VERSION.to_be_bytes());
    out.extend(number(certificates.len()));
    for (n, certificate) in certificates.iter().enumerate() {
        out.extend(TRUSTED.to_be_bytes());
        text(&mut out, &format!("foundry-{n}"));
        // The creation time, which no program reads.
        out.extend(0u64.to_be_bytes());
        text(&mut out, "X.509");
        out.extend(number(certificate.as_ref().len()));
        out.extend(certificate.as_ref());
    }
    let mut hash = Sha1::new();
    hash.update(PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>());
    hash.update(b"Mighty Aphrodite");
    hash.update(&out);
    out.extend(hash.finalize());
    out
}

/// A short ASCII text with its length in front.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_a_store_that_the_tool_of_java_reads_with_its_usual_password() {
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let store = trust_store(&[certificate.der(), certificate.der()]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.jks");
        std::fs::write(&path, &store).unwrap();
        let mut keytool = std::process::Command::new("keytool");
        keytool.args(["-list", "-storepass", PASSWORD, "-keystore"]).arg(&path);
        let Ok(out) = keytool.output() else {
            eprintln!("skipped: keytool of a Java is missing");
            return;
        };
        let words = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && words.contains("foundry-1, "), "{out:?}");
        let mut changed = store;
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert!(!keytool.output().unwrap().status.success(), "it is whole, or it is not read");
    }
}
