//! What can be wrong with a certificate and its key.

use std::io;
use std::path::PathBuf;

use tokio_rustls::rustls;

/// Why the files are of no use. Nothing of the key is repeated.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not there, not for us, or too large.
    #[error("{flag}: '{path}' cannot be read ({error}); give a readable PEM file")]
    Unreadable {
        /// Which flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It begins as PEM, and does not go on as such.
    #[error("{flag}: '{path}' is not whole PEM; copy it anew, from BEGIN to END")]
    NotPem {
        /// Which flag.
        flag: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Something else is in it.
    #[error(
        "--tls-cert: '{0}' holds no certificate; give the PEM file with BEGIN CERTIFICATE, the chain included"
    )]
    NoCertificate(PathBuf),
    /// Something else is in it, or the key is encrypted.
    #[error(
        "--tls-key: '{0}' holds no private key without a passphrase; give the PEM file with BEGIN PRIVATE KEY"
    )]
    NoKey(PathBuf),
    /// It cannot sign.
    #[error("--tls-key: '{path}' is of no use ({error}); give an RSA, ECDSA or Ed25519 key")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What the library says.
        error: rustls::Error,
    },
    /// It cannot be shown.
    #[error("--tls-cert: '{path}' is of no use ({error}); give an X.509 certificate of version 3")]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What the library says.
        error: rustls::Error,
    },
    /// One belongs to another.
    #[error(
        "--tls-key: '{key}' does not belong to the first certificate in '{cert}'; give the key that the certificate was \
         made for, and write the server's own certificate before its chain"
    )]
    NoPair {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The library cannot be set up.
    #[error("--tls-cert: TLS cannot be set up ({0}); please report this")]
    Setup(#[from] rustls::Error),
}
