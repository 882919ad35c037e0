//! The file and its directory: read whole, written whole.

use std::fs::{self, File as Handle, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tempfile::{Builder, NamedTempFile};

use super::file::{Damage, File, Others};
use crate::core::{Day, LedgerRecord};

/// What the file is called in its directory.
pub const FILE_NAME: &str = "ledger.json";

/// How the name of a file begins that is being written.
const BESIDE: &str = "ledger.json.new-";

/// One that is older was left by a kill: a write takes less, but on a disk that hangs.
const BESIDE_MAX: Duration = Duration::from_secs(3600);

/// As for any file that a program makes: who may read it is the umask's business (`open(2)`).
const MODE: u32 = 0o666;

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nothing could be kept there.
    #[error(
        "--state-dir: '{dir}' cannot be written to ({error}); create the directory, and let the user write there that \
         runs paddock"
    )]
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// What is kept there is not for us.
    #[error("--state-dir: '{file}' cannot be read ({error}); let the user read it that runs paddock")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// The ledger's file, as one balancer has it.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    groups: Vec<Arc<str>>,
    /// The number of this balancer: the next one, or its start in milliseconds since the Unix epoch, whichever is greater. So
    /// it is greater than that of one whose file was lost.
    balancer: u64,
    others: Others,
    kept: Option<LedgerRecord>,
    is_failing: bool,
    is_succeeded: bool,
}

impl Store {
    /// Reads the file, and writes it again under the next number: so it is known at the start that it can be.
    ///
    /// 1. There is none: the ledger is empty.
    /// 2. It is damaged: it is set aside, and that is said.
    /// 3. It cannot be read, or nothing can be written: there is no start.
    ///
    /// # Errors
    /// If the directory is of no use.
    pub fn open(
        dir: &Path,
        groups: Vec<Arc<str>>,
        wall: Duration,
    ) -> Result<(Self, Option<LedgerRecord>), LedgerError> {
        let file = dir.join(FILE_NAME);
        clear_away(dir, wall);
        let unwritable = |error| LedgerError::Unwritable { dir: dir.to_owned(), error };
        let before = number(&file).unwrap_or_default();
        let found = match read(&file) {
            Ok(text) => Some(text.and_then(|text| File::read(&text)?.record(&groups))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(LedgerError::Unreadable { file, error }),
        };
        let (record, others) = match found {
            Some(Ok((record, others))) => (Some(record), others),
            Some(Err(damage)) => {
                let aside = dir.join(format!("{FILE_NAME}.damaged-{}", wall.as_secs()));
                fs::rename(&file, &aside).map_err(unwritable)?;
                tracing::warn!(
                    file = %file.display(),
                    aside = %aside.display(),
                    %damage,
                    "the ledger's file is damaged: it is set aside, and a new one is begun"
                );
                (None, Others::new())
            }
            None => (None, Others::new()),
        };
        let mut store = Self {
            dir: dir.to_owned(),
            groups,
            balancer: before.saturating_add(1).max(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
            others,
            kept: None,
            is_failing: false,
            is_succeeded: false,
        };
        // Nothing was counted of today yet: whoever comes next rebuilds it, if this balancer does not live to keep it.
        let today = Day::of(wall).start();
        let claim = LedgerRecord { at: today, began: today, ..LedgerRecord::default() };
        store.write(record.as_ref().unwrap_or(&claim)).map_err(unwritable)?;
        store.kept.clone_from(&record);
        Ok((store, record))
    }

    /// Writes the record, unless nothing but its time is new, or a later balancer has begun to write.
    pub fn keep(&mut self, record: &LedgerRecord) {
        let is_news =
            |kept: &LedgerRecord| (&kept.days, &kept.instances) != (&record.days, &record.instances);
        if self.is_succeeded || !self.kept.as_ref().is_none_or(is_news) {
            return;
        }
        if self.has_successor() {
            tracing::info!("another balancer keeps the ledger now");
            self.is_succeeded = true;
            return;
        }
        match (self.write(record), self.is_failing) {
            (Ok(()), was_failing) => {
                self.kept = Some(record.clone());
                self.is_failing = false;
                if was_failing {
                    tracing::warn!(dir = %self.dir.display(), "the ledger is kept again");
                }
            }
            (Err(error), false) => {
                self.is_failing = true;
                tracing::warn!(
                    dir = %self.dir.display(), %error,
                    "the ledger cannot be kept; what is counted until then is lost if the balancer ends"
                );
            }
            (Err(error), true) => tracing::debug!(%error, "the ledger cannot be kept yet"),
        }
    }

    fn has_successor(&self) -> bool {
        number(&self.dir.join(FILE_NAME)).is_some_and(|balancer| balancer > self.balancer)
    }

    /// Into a file beside it, which then takes its place.
    fn write(&self, record: &LedgerRecord) -> io::Result<()> {
        let text = File::new(record, &self.others, &self.groups, self.balancer).to_json();
        // Its own name: an earlier balancer may be writing at the same time.
        let permissions = Permissions::from_mode(MODE);
        put(Builder::new().prefix(BESIDE).permissions(permissions).tempfile_in(&self.dir)?, &text, &self.dir)
    }
}

/// Whether a balancer could keep its ledger there. What is kept is left as it is.
///
/// # Errors
/// If the directory is of no use.
pub fn check(dir: &Path) -> Result<(), LedgerError> {
    let file = dir.join(FILE_NAME);
    match read(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(LedgerError::Unreadable { file, error });
        }
        Ok(_) | Err(_) => {}
    }
    // Rights alone do not tell of a file system that is full or read-only.
    let made = Builder::new().prefix(BESIDE).tempfile_in(dir).and_then(|mut probe| {
        probe.write_all(b"paddock\n")?;
        probe.close()
    });
    made.map_err(|error| LedgerError::Unwritable { dir: dir.to_owned(), error })
}

/// Whoever reads finds the old file or the new one, whole, and so does whoever reads after a loss of power (`rename(2)`,
/// `fsync(2)`). What was begun in vain does not stay.
fn put(mut beside: NamedTempFile, text: &[u8], dir: &Path) -> io::Result<()> {
    beside.write_all(text)?;
    beside.as_file().sync_all()?;
    beside.persist(dir.join(FILE_NAME))?;
    Handle::open(dir)?.sync_all()
}

/// What a balancer had begun to write when it was killed.
fn clear_away(dir: &Path, wall: Duration) {
    // What is wrong with the directory is said where it is written to.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let written = entry.metadata().and_then(|about| about.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let is_old = written + BESIDE_MAX <= SystemTime::UNIX_EPOCH + wall;
        if is_old && entry.file_name().to_string_lossy().starts_with(BESIDE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The number of the balancer that wrote the file, even if a later version did.
fn number(file: &Path) -> Option<u64> {
    File::number(&read(file).ok()?.ok()?)
}

/// The whole file, or that it is too long to be one.
fn read(file: &Path) -> io::Result<Result<Vec<u8>, Damage>> {
    let mut text = Vec::new();
    Handle::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(if text.len() as u64 > FILE_BYTES_MAX { Err(Damage::Size) } else { Ok(text) })
}

#[cfg(test)]
mod tests;
