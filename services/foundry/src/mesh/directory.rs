//! The data directory of the mesh, and what a start that fails leaves of it.

use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use foundry_server::DataDirectory;

use crate::failure::Failure;

/// The directories that this start has made, the innermost first; empty if the data directory was there.
pub struct Made(Vec<PathBuf>);

/// Creates the data directory for its owner alone: it holds keys and databases.
///
/// # Errors
/// When the file system refuses.
pub fn make_private(dir: &Path) -> Result<Made, Failure> {
    let absent = dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
    let made = Made(absent.map(Path::to_owned).collect());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    Ok(made)
}

impl Made {
    /// Removes what was made for a start that ends before anything is stored. `data` are the directories of the services,
    /// which nothing but their locks is in. What cannot be removed stays: then something else is in it.
    pub fn undo(self, data: Vec<Option<DataDirectory>>) {
        if self.0.is_empty() {
            return;
        }
        for locked in data.iter().flatten() {
            let _ = std::fs::remove_file(locked.path().join(DataDirectory::LOCK));
            let _ = std::fs::remove_dir(locked.path());
        }
        self.0.iter().for_each(|dir| drop(std::fs::remove_dir(dir)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(dir: &Path) -> Vec<Option<DataDirectory>> {
        vec![None, Some(DataDirectory::open(dir.join("auth")).unwrap())]
    }

    #[test]
    fn a_start_that_fails_leaves_no_directory_that_it_made() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("new/mesh");
        let made = make_private(&dir).unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        made.undo(locked(&dir));
        assert!(!root.path().join("new").exists() && root.path().exists());
    }

    #[test]
    fn a_start_that_fails_leaves_what_was_there_before_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        make_private(root.path()).unwrap().undo(locked(root.path()));
        assert!(root.path().join("auth").exists());
    }
}
