//! `foundry certificates`: an authority for development and what it has signed.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use foundry_core::{Env, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use crate::failure::Failure;
use crate::mesh::SERVICES;
use crate::output;

/// The names of this machine, which the gateway's https is always for.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The pair of the gateway's https.
const HTTPS: &str = "https";

/// Makes the files, or none if one of them is there.
///
/// # Errors
/// When a file exists or cannot be written, and for a host that cannot be in a certificate.
pub fn run(directory: &Path, hosts: Vec<String>) -> Result<ExitCode, Failure> {
    let files = make(hosts, Env::system().clock.now())?;
    if let Some((name, _)) = files.iter().find(|(name, _)| directory.join(name).exists()) {
        let path = directory.join(name);
        return Err(Failure::new(format!("{} exists and is not replaced", path.display()))
            .next("choose another directory, or remove the old certificates yourself")
            .exit(2));
    }
    fs::create_dir_all(directory)?;
    for (name, text) in &files {
        // Another program that is faster keeps its file.
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(name))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    let place = std::path::absolute(directory)?;
    let at = |name: &str| place.join(name).display().to_string();
    output::line(&format!(
        "{} files in {}, valid for a year. In the configuration:",
        files.len(),
        directory.display()
    ));
    output::line(&format!(
        "  gateway.tls = {{ certificate = {:?}, key = {:?} }}",
        at("https.pem"),
        at("https.key")
    ));
    output::line(&format!(
        "  mesh.tls = {{ ca = {:?}, certificate = {:?}, key = {:?} }}   # for `foundry serve`",
        at("ca.pem"),
        at("{service}.pem"),
        at("{service}.key")
    ));
    output::line(&format!("Programs trust the gateway with SSL_CERT_FILE={}", at("ca.pem")));
    Ok(ExitCode::SUCCESS)
}

/// All files with their content.
fn make(hosts: Vec<String>, now: Timestamp) -> Result<Vec<(String, String)>, Failure> {
    let key = key()?;
    let mut params = CertificateParams::new(Vec::new()).map_err(cannot)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "Foundry development authority");
    valid_for_a_year(&mut params, now);
    let ca = params.self_signed(&key).map_err(cannot)?.pem();
    // Its key ends with this process.
    let authority = Issuer::new(params, key);
    let mut files = vec![("ca.pem".to_owned(), ca)];

    for service in SERVICES {
        let mut params = CertificateParams::new(Vec::new()).map_err(cannot)?;
        let name = format!("spiffe://foundry/{}", service.name).try_into().map_err(cannot)?;
        params.subject_alt_names = vec![SanType::URI(name)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        files.extend(pair(service.name, params, &authority, now)?);
    }
    let hosts: Vec<String> = HERE.iter().map(|host| (*host).to_owned()).chain(hosts).collect();
    let mut params = CertificateParams::new(hosts).map_err(cannot)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    files.extend(pair(HTTPS, params, &authority, now)?);
    Ok(files)
}

/// A certificate and its key, as two files.
fn pair(
    name: &str,
    mut params: CertificateParams,
    authority: &Issuer<'_, KeyPair>,
    now: Timestamp,
) -> Result<[(String, String); 2], Failure> {
    let key = key()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, format!("foundry {name}"));
    params.use_authority_key_identifier_extension = true;
    valid_for_a_year(&mut params, now);
    let certificate = params.signed_by(&key, authority).map_err(cannot)?.pem();
    Ok([(format!("{name}.pem"), certificate), (format!("{name}.key"), key.serialize_pem())])
}

fn key() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(cannot)
}

/// From the beginning of this day on.
fn valid_for_a_year(params: &mut CertificateParams, now: Timestamp) {
    let text = now.to_string();
    let mut numbers = text.split(['-', 'T']).map_while(|part| part.parse::<u16>().ok());
    let mut next = || numbers.next().unwrap_or(1);
    let (year, month, day) = (i32::from(next()), next() as u8, next() as u8);
    params.not_before = date_time_ymd(year, month, day);
    // The 29th of February has no next year.
    params.not_after = date_time_ymd(year + 1, month, day.min(28));
}

fn cannot(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("a certificate cannot be made: {error}")).exit(2)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use foundry_server::Certificates;
    use foundry_server::config::{MeshTlsFiles, TlsFiles};

    use super::*;

    #[tokio::test]
    async fn makes_what_each_service_and_the_gateway_need_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("new").join(name);
        run(&dir.path().join("new"), vec!["foundry.example".to_owned()]).unwrap();
        for service in SERVICES {
            let (certificate, key) =
                (at(&format!("{}.pem", service.name)), at(&format!("{}.key", service.name)));
            let files = MeshTlsFiles { ca: at("ca.pem"), certificate, key };
            assert!(Certificates::of_service(&files, "mesh.tls", service.name).await.unwrap().is_some());
            let other = SERVICES.iter().find(|other| other.name != service.name).unwrap();
            let refused = Certificates::of_service(&files, "mesh.tls", other.name).await.unwrap_err();
            assert_eq!(refused.reason(), "TLS_FILES_UNUSABLE");
        }
        let https = TlsFiles { certificate: at("https.pem"), key: at("https.key") };
        assert!(Certificates::of_edge(&https, "gateway.tls").await.unwrap().is_some());
        let mut files = 0;
        for entry in fs::read_dir(dir.path().join("new")).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
            files += 1;
        }
        assert_eq!(files, 1 + 2 * (SERVICES.len() + 1));
    }

    #[test]
    fn replaces_nothing_and_leaves_nothing_beside_what_it_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("task.key"), "precious").unwrap();
        let refused = run(dir.path(), Vec::new()).unwrap_err();
        assert!(refused.message.contains("task.key exists"), "{}", refused.message);
        assert_eq!(fs::read_to_string(dir.path().join("task.key")).unwrap(), "precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_leap_day_has_a_next_year() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // The 29th of February 2028.
        valid_for_a_year(&mut params, Timestamp::from_micros(1_835_395_200_000_000));
        assert_eq!(params.not_before, date_time_ymd(2028, 2, 29));
        assert_eq!(params.not_after, date_time_ymd(2029, 2, 28));
    }
}
