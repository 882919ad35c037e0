//! The management token.

use std::fmt;

use hmac::{Hmac, KeyInit};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What agents and management clients present as `Authorization: Bearer`. Only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    hash: [u8; 32],
}

impl Token {
    /// Takes the token over. An empty one would be met by an empty header: refuse it where it is configured.
    #[must_use]
    pub fn new(token: String) -> Self {
        Self { hash: Sha256::digest(token).into() }
    }

    /// Whether `presented` is the token. Takes the same time whichever byte differs.
    #[must_use]
    pub fn matches(&self, presented: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(presented).into();
        self.hash.ct_eq(&hash).into()
    }

    /// What signs as only somebody can who knows the token. A key shorter than the hash's block is filled up with zeros
    /// (RFC 2104 section 2).
    pub(super) fn signer(&self) -> Hmac<Sha256> {
        let mut key = [0; 64];
        key[..32].copy_from_slice(&self.hash);
        Hmac::new(&key.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_token() {
        let shown = format!("{:?}", Token::new("sesame".to_owned()));
        assert_eq!(shown, "Token(..)");
    }
}
