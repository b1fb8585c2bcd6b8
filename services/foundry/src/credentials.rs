//! The credentials that `foundry login` stores per gateway address, in a file of mode 0600.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The stored credential of one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The bearer token.
    pub token: String,
    /// Id of the organization that was opened.
    pub organization_id: String,
}

/// The credentials file.
pub struct Credentials {
    path: PathBuf,
}

impl Credentials {
    /// The file in the user's configuration directory.
    ///
    /// # Errors
    /// When neither `XDG_CONFIG_HOME` nor `HOME` is set.
    pub fn of_user() -> Result<Self, Failure> {
        let base = std::env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))
            .ok_or_else(|| {
                Failure::new("neither XDG_CONFIG_HOME nor HOME is set").next("set HOME, or pass --token")
            })?;
        Ok(Self { path: base.join("foundry").join("credentials.json") })
    }

    #[cfg(test)]
    fn at(path: PathBuf) -> Self {
        Self { path }
    }

    fn read(&self) -> Result<BTreeMap<String, Credential>, Failure> {
        match std::fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
                Failure::new(format!("{} is corrupted: {e}", self.path.display()))
                    .next("remove it and sign in again")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(e) => Err(Failure::new(format!("{}: {e}", self.path.display()))),
        }
    }

    /// The stored credential of the gateway at `address`.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, address: &str) -> Result<Option<Credential>, Failure> {
        Ok(self.read()?.remove(address))
    }

    /// Stores a credential. The file is replaced atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&self, address: &str, credential: Credential) -> Result<(), Failure> {
        let mut all = self.read()?;
        all.insert(address.to_owned(), credential);
        self.write(&all)
    }

    /// Forgets the credential of a gateway.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn remove(&self, address: &str) -> Result<(), Failure> {
        let mut all = self.read()?;
        if all.remove(address).is_some() { self.write(&all) } else { Ok(()) }
    }

    fn write(&self, all: &BTreeMap<String, Credential>) -> Result<(), Failure> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir)?;
        let temporary = self.path.with_extension(format!("tmp{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(all).map_err(|e| Failure::new(e.to_string()))?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn remembers_one_credential_per_address_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials::at(dir.path().join("foundry/credentials.json"));
        let credential = Credential { token: "fds_x".into(), organization_id: "org_1".into() };
        credentials.put("http://a", credential.clone()).unwrap();
        assert_eq!(credentials.get("http://a").unwrap(), Some(credential));
        assert_eq!(credentials.get("http://b").unwrap(), None);
        let mode = std::fs::metadata(&credentials.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        credentials.remove("http://b").unwrap();
        credentials.remove("http://a").unwrap();
        assert_eq!(credentials.get("http://a").unwrap(), None);
    }
}
