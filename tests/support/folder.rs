//! A folder for a test's files.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A new folder, gone when it is dropped.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(TempDir::with_prefix("paddock-test-").unwrap())
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file in place.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Replaces a file at once, as careful programs do.
    pub fn replace(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::rename(self.write(&format!("{name}.new"), text), &path).unwrap();
        path
    }
}

impl AsRef<Path> for Folder {
    fn as_ref(&self) -> &Path {
        self.0.path()
    }
}
