//! Who may call.

use std::path::PathBuf;
use std::sync::Arc;

use super::CheckError;
use crate::proxy::Keys;

#[derive(Debug, clap::Args)]
pub(super) struct AccessFlags {
    /// A file of clients' keys, a line `NAME HASH` for each, as `paddock key new NAME` makes them; read again when it
    /// changes [default: everybody may call]
    #[arg(long, env = "PADDOCK_API_KEYS_FILE", value_name = "FILE")]
    api_keys_file: Option<PathBuf>,
}

impl AccessFlags {
    /// The keys, read.
    pub(super) fn keys(&self) -> Result<Option<Arc<Keys>>, CheckError> {
        Ok(self.api_keys_file.as_deref().map(Keys::open).transpose()?.map(Arc::new))
    }
}
