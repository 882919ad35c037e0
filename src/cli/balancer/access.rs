//! Who may call, and how nobody else listens.

use std::path::PathBuf;
use std::sync::Arc;

use super::CheckError;
use crate::proxy::{Keys, Tls};

#[derive(Debug, clap::Args)]
pub(super) struct AccessFlags {
    /// A file of clients' keys, a line `NAME HASH` for each, as `paddock key new NAME` makes them; read again when it
    /// changes [default: everybody may call]
    #[arg(long, env = "PADDOCK_API_KEYS_FILE", value_name = "FILE")]
    api_keys_file: Option<PathBuf>,
    /// A certificate with its chain, as PEM: clients then speak TLS, and nothing else; read again when it changes
    #[arg(long, env = "PADDOCK_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM and without a passphrase; read again when it changes
    #[arg(long, env = "PADDOCK_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

impl AccessFlags {
    /// The keys, read.
    pub(super) fn keys(&self) -> Result<Option<Arc<Keys>>, CheckError> {
        Ok(self.api_keys_file.as_deref().map(Keys::open).transpose()?.map(Arc::new))
    }

    /// The certificate with its key, read.
    pub(super) fn tls(&self) -> Result<Option<Arc<Tls>>, CheckError> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Ok(Some(Arc::new(Tls::open(cert, key)?))),
            (Some(cert), None) => Err(CheckError::CertWithoutKey(cert.clone())),
            (None, Some(key)) => Err(CheckError::KeyWithoutCert(key.clone())),
            (None, None) => Ok(None),
        }
    }
}
