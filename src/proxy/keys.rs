//! Clients' keys: who may call, and on whose account.
//!
//! A key is 256 random bits, so a plain hash of it cannot be turned back by guessing, and the file holds no secret. A
//! salted, slow hash is for passwords, which people choose; it would cost every request.

mod file;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::classify::Route;
use super::error::Refusal;
use super::headers::X_API_KEY;
use crate::core::TenantId;
use crate::reload::{self, Watch};

use file::Entry;
pub use file::{KeyNameError, KeysFileError, key_name};

/// What a key begins with, so that a secret scanner can tell what it found.
const PREFIX: &str = "pk-";
/// The random part, in bytes.
const KEY_BYTES: usize = 32;
/// The longest file: room for every key that may be in it.
const FILE_BYTES_MAX: usize = 4 << 20;

/// On whose account requests are that nobody has to answer for.
pub(super) const EVERYBODY: TenantId = TenantId(0);

/// The keys of a file, as it is now.
pub struct Keys {
    path: PathBuf,
    watch: Watch,
    entries: RwLock<Vec<Entry>>,
}

impl Keys {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is wrong.
    pub fn open(path: &Path) -> Result<Self, KeysFileError> {
        let watch = Watch::new(vec![path.to_owned()]);
        let entries = load(path, &[])?;
        Ok(Self { path: path.to_owned(), watch, entries: RwLock::new(entries) })
    }

    /// Reads the file again whenever it changes, for ever.
    pub async fn follow(&self) {
        self.warn_if_empty();
        self.watch
            .clone()
            .run(|| {
                let entries = load(&self.path, &self.read())?;
                let count = entries.len();
                *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
                self.warn_if_empty();
                Ok::<_, KeysFileError>(format!("keys in '{}': {count}", self.path.display()))
            })
            .await;
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn_if_empty(&self) {
        if self.read().is_empty() {
            tracing::warn!(
                "--api-keys-file: '{}' has no keys, so nobody may call; make one with: paddock key new NAME",
                self.path.display()
            );
        }
    }

    /// On whose account a request is. Its key is taken out, so that it goes no further.
    ///
    /// 1. The gateway's own health is open: load balancers have no key.
    /// 2. A browser asks without a key whether its page may send one (Fetch, section 4.8). That has no body, waits for
    ///    nothing and starts nothing.
    /// 3. Everything else needs a known key.
    pub(super) fn admit(&self, route: Route, parts: &mut Parts, has_body: bool) -> Result<TenantId, Refusal> {
        let is_open = route == Route::Health || (!has_body && is_preflight(parts));
        let tenant = if is_open { Some(EVERYBODY) } else { self.tenant(&parts.headers) };
        parts.headers.remove(AUTHORIZATION);
        parts.headers.remove(X_API_KEY);
        tenant.ok_or(Refusal::Unauthorized)
    }

    /// What the keys of a tenant are called; none once they were taken out.
    pub(super) fn name(&self, tenant: TenantId) -> Option<Arc<str>> {
        self.read().iter().find(|entry| entry.tenant == tenant).map(|entry| entry.name.clone())
    }

    /// Whose key is presented. Takes the same time whether and where its key stands in the file.
    ///
    /// 1. `Authorization` once at most, and only as Bearer; `X-Api-Key` once at most.
    /// 2. Both may be there if they are the same.
    /// 3. The key stands in the file.
    fn tenant(&self, headers: &HeaderMap) -> Option<TenantId> {
        let presented = presented(headers)?;
        let hash: [u8; 32] = Sha256::digest(presented).into();
        let (mut tenant, mut is_known) = (0, Choice::from(0));
        for entry in self.read().iter() {
            let is_this = entry.hash.ct_eq(&hash);
            tenant.conditional_assign(&entry.tenant.0, is_this);
            is_known |= is_this;
        }
        bool::from(is_known).then_some(TenantId(tenant))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).finish_non_exhaustive()
    }
}

fn load(path: &Path, before: &[Entry]) -> Result<Vec<Entry>, KeysFileError> {
    let text = reload::read(path, FILE_BYTES_MAX)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| std::io::ErrorKind::InvalidData.into()))
        .map_err(|error| KeysFileError::Unreadable { path: path.to_owned(), error })?;
    file::parse(&text, before).map_err(|(line, error)| KeysFileError::Line {
        path: path.to_owned(),
        line,
        error,
    })
}

fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The one key that a request presents.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = match only(headers, &AUTHORIZATION)? {
        // The scheme's name knows no case (RFC 9110 section 11.1).
        Some(value) => match value.split_at_checked("bearer ".len()) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => Some(key.trim_ascii()),
            Some(_) | None => return None,
        },
        None => None,
    };
    match (bearer, only(headers, &X_API_KEY)?) {
        (Some(bearer), Some(plain)) if bearer != plain => None,
        (bearer, plain) => bearer.or(plain),
    }
}

/// The value of a header that may be there once: none when it is there twice.
fn only<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<Option<&'a [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    values.next().is_none().then(|| first.map(http::HeaderValue::as_bytes))
}

/// A key that was just made. Its `Debug` shows nothing of it.
pub struct NewKey {
    key: String,
    line: String,
}

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(name: &str) -> std::io::Result<Self> {
        let mut random = [0; KEY_BYTES];
        // Up to 256 bytes come whole, or not at all (getrandom(2)).
        getrandom(&mut random, GetRandomFlags::empty())?;
        let key = format!("{PREFIX}{}", file::hex(&random));
        let line = file::line(name, &Sha256::digest(&key).into());
        Ok(Self { key, line })
    }

    /// What the client presents. It is nowhere kept.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What belongs into the file.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("line", &self.line).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
