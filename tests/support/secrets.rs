//! A file of token secrets that a test can replace.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Removed when dropped.
pub struct SecretFile(PathBuf);

impl SecretFile {
    /// One secret on each line, readable by its owner only.
    pub fn new(secrets: &[&str]) -> SecretFile {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("pilotlight-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = SecretFile(std::env::temp_dir().join(name));
        file.write(secrets);
        file
    }

    /// Replaces the secrets atomically.
    pub fn write(&self, secrets: &[&str]) {
        let new = self.0.with_extension("new");
        fs::write(&new, secrets.join("\n") + "\n").expect("written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("made private");
        fs::rename(&new, &self.0).expect("renamed");
    }

    /// The flags that name the file.
    pub fn flags(&self, mode: &str) -> String {
        format!("--token-mode {mode} --token-secret-file {}", self.0.display())
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
