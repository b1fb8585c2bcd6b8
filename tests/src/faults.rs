//! Steers the provider `fault`: it hangs, lingers, fails or dawdles at a stage as files in a directory say.

use std::path::{Path, PathBuf};

/// The directory that steers it.
pub struct Faults(PathBuf);

/// Settings that make `fault` the default provider of a mesh that was started with [`crate::Mesh::start_faulty`].
pub fn settings() -> [&'static str; 3] {
    [
        "provisioner.default_provider=fault",
        "task.default_provider=fault",
        "task.providers=[\"local\", \"fault\"]",
    ]
}

impl Faults {
    /// No faults yet.
    ///
    /// # Panics
    /// When the directory cannot be made.
    pub fn none(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("directory");
        Self(directory.to_owned())
    }

    /// Calls of this stage hang from now on.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn hang(&self, stage: &str) {
        std::fs::write(self.0.join(format!("{stage}.hang")), "").expect("file");
    }

    /// The next call of this stage hangs between its effect and its answer, and all after it.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn linger(&self, stage: &str) {
        std::fs::write(self.0.join(format!("{stage}.linger")), "").expect("file");
    }

    /// Waits until a call of this stage has had its effect and lingers.
    ///
    /// # Panics
    /// When none does.
    pub async fn lingers(&self, stage: &str) {
        let told = self.0.join(format!("{stage}.lingers"));
        let begun = std::time::Instant::now();
        while !told.exists() {
            assert!(begun.elapsed() < crate::story::PATIENCE, "no call of {stage} lingers");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Calls of this stage give their answers.
    ///
    /// # Panics
    /// When the file cannot be removed.
    pub fn answer(&self, stage: &str) {
        for file in ["linger", "lingers"] {
            std::fs::remove_file(self.0.join(format!("{stage}.{file}"))).expect("file");
        }
    }

    /// Calls of this stage go on.
    ///
    /// # Panics
    /// When the file cannot be removed.
    pub fn release(&self, stage: &str) {
        std::fs::remove_file(self.0.join(format!("{stage}.hang"))).expect("file");
    }

    /// The next calls of this stage fail.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn fail(&self, stage: &str, times: u32) {
        std::fs::write(self.0.join(format!("{stage}.fail")), times.to_string()).expect("file");
    }
}
