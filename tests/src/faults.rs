//! Controls the provider `fault` by files in a directory: it hangs, lingers or fails at a stage.

use std::path::{Path, PathBuf};

/// The directory that the provider reads.
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
    /// Creates the directory, without any faults.
    ///
    /// # Panics
    /// When the directory cannot be made.
    pub fn none(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("directory");
        Self(directory.to_owned())
    }

    /// Makes calls of this stage hang from now on, before they have an effect.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn hang(&self, stage: &str) {
        std::fs::write(self.0.join(format!("{stage}.hang")), "").expect("file");
    }

    /// Makes calls of this stage hang from now on, after their effect but before their answer.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn linger(&self, stage: &str) {
        std::fs::write(self.0.join(format!("{stage}.linger")), "").expect("file");
    }

    /// Waits until a call of this stage hangs before its effect.
    ///
    /// # Panics
    /// When none does.
    pub async fn hangs(&self, stage: &str) {
        self.marked(&format!("{stage}.hangs")).await;
    }

    /// Waits until a call of this stage has had its effect and hangs.
    ///
    /// # Panics
    /// When none does.
    pub async fn lingers(&self, stage: &str) {
        self.marked(&format!("{stage}.lingers")).await;
    }

    async fn marked(&self, file: &str) {
        let begun = std::time::Instant::now();
        while !self.0.join(file).exists() {
            assert!(begun.elapsed() < crate::story::PATIENCE, "no call made {file}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Ends [`Faults::linger`]: the calls of this stage are answered.
    ///
    /// # Panics
    /// When the file cannot be removed.
    pub fn answer(&self, stage: &str) {
        for file in ["linger", "lingers"] {
            std::fs::remove_file(self.0.join(format!("{stage}.{file}"))).expect("file");
        }
    }

    /// Ends [`Faults::hang`]: the calls of this stage continue.
    ///
    /// # Panics
    /// When the file cannot be removed.
    pub fn release(&self, stage: &str) {
        std::fs::remove_file(self.0.join(format!("{stage}.hang"))).expect("file");
        // Only there if a call came.
        let _ = std::fs::remove_file(self.0.join(format!("{stage}.hangs")));
    }

    /// Makes the next calls of this stage fail.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn fail(&self, stage: &str, times: u32) {
        std::fs::write(self.0.join(format!("{stage}.fail")), times.to_string()).expect("file");
    }
}
