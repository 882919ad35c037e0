//! TLS towards clients. The certificate is read again when its files change; connections that run keep theirs.

mod error;
mod validity;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;

use crate::clock::Clock;
use crate::reload::{self, Watch};

pub use error::TlsError;
use validity::Validity;

/// In the order of preference (RFC 7301).
const ALPN: [&[u8]; 2] = [ALPN_H2, b"http/1.1"];
/// HTTP/2's name among them.
const ALPN_H2: &[u8] = b"h2";
/// The longest file: a chain of certificates has some kilobytes.
const FILE_BYTES_MAX: usize = 1 << 20;
/// How often the certificate's end is looked at, and how long before it is told of. Who renews automatically does so
/// weeks before.
const VALIDITY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// A certificate and its key, as their files are now.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    watch: Watch,
    current: RwLock<Loaded>,
}

#[derive(Clone)]
struct Loaded {
    config: Arc<ServerConfig>,
    validity: Option<Validity>,
}

impl Tls {
    /// Reads both files.
    ///
    /// # Errors
    /// One cannot be read, or they are no pair.
    pub fn open(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let watch = Watch::new(vec![cert.to_owned(), key.to_owned()]);
        let current = RwLock::new(load(cert, key)?);
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), watch, current })
    }

    /// Reads the files again whenever they change, and warns before the certificate's end, for ever.
    pub async fn follow(&self, clock: Clock) {
        let reading = self.watch.clone().run(|| {
            let loaded = load(&self.cert, &self.key)?;
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
            self.warn_of_end(clock);
            Ok::<_, TlsError>(format!("new connections get the new certificate of '{}'", self.cert.display()))
        });
        let warning = async {
            loop {
                self.warn_of_end(clock);
                tokio::time::sleep(VALIDITY_EVERY).await;
            }
        };
        tokio::join!(reading, warning);
    }

    fn current(&self) -> Loaded {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn warn_of_end(&self, clock: Clock) {
        if let Some(words) = self.end(clock.now().wall) {
            tracing::warn!("{words}");
        }
    }

    /// What is to be said about the time in which the certificate is valid; none if it goes on for long. `now` is the time
    /// since the Unix epoch.
    #[must_use]
    pub fn end(&self, now: Duration) -> Option<String> {
        let cert = self.cert.display();
        let Validity { from, until } = self.current().validity?;
        if now < from {
            Some(format!(
                "--tls-cert: '{cert}' is not valid yet, so clients refuse it; look at the machine's clock"
            ))
        } else if now > until {
            Some(format!("--tls-cert: '{cert}' has expired, so clients refuse it; renew it"))
        } else if now + EXPIRES_SOON > until {
            let left = Duration::from_secs((until - now).as_secs());
            Some(format!("--tls-cert: '{cert}' expires in {}; renew it", humantime::format_duration(left)))
        } else {
            None
        }
    }

    /// Whether clients refuse the certificate for its time. `now` is the time since the Unix epoch.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        self.current().validity.is_some_and(|validity| now < validity.from || now > validity.until)
    }

    /// The handshake of a new connection, with the certificate of this moment.
    ///
    /// # Errors
    /// The client left, or does not agree.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<Accepted> {
        let mut first = [0];
        stream.peek(&mut first).await?;
        // TLS begins with the type of its record (RFC 8446 section 5.1), HTTP with the letters of a method.
        if first[0].is_ascii_alphabetic() {
            return Ok(Accepted::Plain(stream));
        }
        let handshake = TlsAcceptor::from(self.current().config).accept(stream);
        handshake
            .await
            .map(|stream| Accepted::Secure(Box::new(stream)))
            .inspect_err(|error| tracing::debug!(%error, "a client's TLS handshake failed"))
    }
}

/// What a client began with.
pub(super) enum Accepted {
    /// A handshake, which is done.
    Secure(Box<TlsStream<TcpStream>>),
    /// HTTP, of which nothing was read.
    Plain(TcpStream),
}

/// Whether the client chose HTTP/2. One that was not asked speaks HTTP/1.1.
pub(super) fn chose_h2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(ALPN_H2)
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("cert", &self.cert).field("key", &self.key).finish_non_exhaustive()
    }
}

/// 1. The certificates: the server's own first, then its chain.
/// 2. The key: not encrypted.
/// 3. They belong together: a pair of which one file is new already is refused.
fn load(cert: &Path, key: &Path) -> Result<Loaded, TlsError> {
    let read = |flag, path: &Path| {
        reload::read(path, FILE_BYTES_MAX).map_err(|error| TlsError::Unreadable {
            flag,
            path: path.to_owned(),
            error,
        })
    };
    let chain = CertificateDer::pem_slice_iter(&read("--tls-cert", cert)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::NotPem { flag: "--tls-cert", path: cert.to_owned() })?;
    let Some(own) = chain.first() else { return Err(TlsError::NoCertificate(cert.to_owned())) };
    let validity = Validity::of(own);
    let der = PrivateKeyDer::from_pem_slice(&read("--tls-key", key)?).map_err(|error| {
        if matches!(error, PemError::NoItemsFound) {
            TlsError::NoKey(key.to_owned())
        } else {
            TlsError::NotPem { flag: "--tls-key", path: key.to_owned() }
        }
    })?;

    let provider = Arc::new(aws_lc_rs::default_provider());
    let signing = provider
        .key_provider
        .load_private_key(der)
        .map_err(|error| TlsError::BadKey { path: key.to_owned(), error })?;
    let pair = CertifiedKey::new(chain, signing);
    pair.keys_match().map_err(|error| {
        if matches!(error, rustls::Error::InconsistentKeys(_)) {
            TlsError::NoPair { cert: cert.to_owned(), key: key.to_owned() }
        } else {
            TlsError::BadCertificate { path: cert.to_owned(), error }
        }
    })?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    // Returning clients bring their session along, so that none is kept here. The tickets' keys rotate by themselves, and
    // a new certificate makes the old tickets useless: who returns sees it.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Loaded { config: Arc::new(config), validity })
}

#[cfg(test)]
mod tests;
