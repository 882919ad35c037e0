//! Files that are read again when they change: keys, certificates.
//!
//! They are looked at, not listened to: a look costs a few system calls a second, and sees what is replaced by renaming,
//! through symbolic links and over network file systems too.

use std::fmt::Display;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often files are looked at. A change is read after one more look that finds the files at rest: who writes may
/// not be done, and a certificate and its key are never replaced in the same moment.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads a whole file.
///
/// # Errors
/// What the system says, or [`io::ErrorKind::FileTooLarge`] beyond `bytes_max`: `/dev/zero` has no end.
pub fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// What differs when a file was changed. The time of the change of the inode stands for that of the contents, which can
/// be set at will, and tells of new permissions too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    inode: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            inode: (found.dev(), found.ino()),
            bytes: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Files as they were seen. Made before they are read for the first time, so that no change goes unnoticed.
#[derive(Debug, Clone)]
pub struct Watch {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Look>>,
}

impl Watch {
    /// Looks at the files.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let mut watch = Self { paths, seen: Vec::new() };
        watch.seen = watch.look();
        watch
    }

    fn look(&self) -> Vec<Option<Look>> {
        self.paths.iter().map(|path| Look::at(path)).collect()
    }

    /// Calls `load` after each change, for ever. What it returns is told: what is in force now, or why it is still what
    /// was loaded before.
    pub async fn run<E: Display>(mut self, mut load: impl FnMut() -> Result<String, E>) {
        let mut last = self.seen.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let look = self.look();
            if look != last {
                last = look;
                continue;
            }
            if look == self.seen {
                continue;
            }
            self.seen = look;
            match load() {
                Ok(loaded) => tracing::info!("{loaded}"),
                Err(error) => tracing::error!("{error}; what was loaded before goes on"),
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
