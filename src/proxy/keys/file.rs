//! The file of keys: `NAME HASH` in each line, `#` begins a comment.
//!
//! A name may have several keys, so that the old one goes on while the new one is handed out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::TenantId;

/// Keys in a file. Each request is compared with all of them.
const KEYS_MAX: usize = 10_000;
/// The longest name, in characters.
const NAME_MAX: usize = 64;
/// How a hash is written: the function first, for the day on which there are two.
const HASH_PREFIX: &str = "sha256:";

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    pub(super) hash: [u8; 32],
    pub(super) tenant: TenantId,
}

/// Why a file of keys is of no use. What stands in a line is not repeated: somebody may have put a key there.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// It is not there, not for us, too large or no text.
    #[error("--api-keys-file: '{path}' cannot be read ({error}); give a readable file of lines 'NAME HASH'")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A line is wrong.
    #[error("--api-keys-file: '{path}' line {line}: {error}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// There are not two words.
    #[error("it is not a name and a hash; write NAME sha256:HEX, as paddock key new NAME shows it")]
    NotTwoWords,
    /// The name is none.
    #[error("{0}")]
    Name(#[from] KeyNameError),
    /// The hash is none.
    #[error(
        "its second word is no hash; write sha256: and 64 hexadecimal digits, as paddock key new NAME shows it"
    )]
    NotAHash,
    /// Whose would it be?
    #[error("line {0} has the same key; remove one of them")]
    Twice(usize),
    /// Every request would be compared with it.
    #[error("there are more than {KEYS_MAX} keys; remove some")]
    TooMany,
}

/// The name cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name is not made of up to {NAME_MAX} letters, digits and characters of . _ - @; write one such as alice"
)]
pub struct KeyNameError;

/// The name of a key.
///
/// # Errors
/// If it is empty, too long, or has other characters than letters, digits and those of `._-@`.
pub fn key_name(text: &str) -> Result<String, KeyNameError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err(KeyNameError)
    }
}

/// The keys of a file. Tenants keep the number that they had `before`, so that a reload takes nobody's turn; numbers of
/// names that are gone are given out again.
pub(super) fn parse(text: &str, before: &[Entry]) -> Result<Vec<Entry>, (usize, LineError)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines = BTreeMap::new();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let line = line.split('#').next().unwrap_or_default();
        if line.trim().is_empty() {
            continue;
        }
        let (name, hash) = words(line).map_err(|error| (number, error))?;
        if let Some(earlier) = lines.insert(hash, number) {
            return Err((number, LineError::Twice(earlier)));
        }
        if entries.len() == KEYS_MAX {
            return Err((number, LineError::TooMany));
        }
        entries.push(Entry { name: name.into(), hash, tenant: TenantId(0) });
    }
    number_tenants(&mut entries, before);
    Ok(entries)
}

fn words(line: &str) -> Result<(String, [u8; 32]), LineError> {
    let mut words = line.split_whitespace();
    let (Some(name), Some(hash), None) = (words.next(), words.next(), words.next()) else {
        return Err(LineError::NotTwoWords);
    };
    Ok((key_name(name)?, hash.strip_prefix(HASH_PREFIX).and_then(unhex).ok_or(LineError::NotAHash)?))
}

fn number_tenants(entries: &mut [Entry], before: &[Entry]) {
    let names: BTreeSet<&str> = entries.iter().map(|entry| &*entry.name).collect();
    let mut numbers: BTreeMap<Arc<str>, TenantId> = before
        .iter()
        .filter(|entry| names.contains(&*entry.name))
        .map(|entry| (entry.name.clone(), entry.tenant))
        .collect();
    let taken: BTreeSet<TenantId> = numbers.values().copied().collect();
    // 0 is `EVERYBODY`.
    let mut free = (1..).map(TenantId).filter(|tenant| !taken.contains(tenant));
    for entry in entries {
        let known = numbers.get(&entry.name).copied();
        let Some(tenant) = known.or_else(|| free.next()) else { return };
        numbers.insert(entry.name.clone(), tenant);
        entry.tenant = tenant;
    }
}

/// A line of the file.
pub(super) fn line(name: &str, hash: &[u8; 32]) -> String {
    format!("{name} {HASH_PREFIX}{}", hex(hash))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
