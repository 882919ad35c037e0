//! Secrets that do not end up in logs.

use std::fmt;

use super::value::ValueError;

/// A token or a key. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the one who sends or compares it.
    #[must_use]
    pub fn into_exposed(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret that can be sent in a header's value as one word (RFC 9110 section 5.5).
///
/// # Errors
/// If it is empty or could not be sent. The errors do not repeat it.
pub fn secret(text: &str) -> Result<Secret, ValueError> {
    if text.is_empty() {
        Err(ValueError::EmptySecret)
    } else if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(Secret(text.to_owned()))
    } else {
        Err(ValueError::UnsendableSecret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let kept = secret("sesame-0!~").unwrap();
        assert_eq!(format!("{kept:?}"), "Secret(…)");
        assert_eq!(kept.into_exposed(), "sesame-0!~");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_repeating_it() {
        assert_eq!(secret(""), Err(ValueError::EmptySecret));
        for text in ["two words", "line\n", "sésame"] {
            let error = secret(text).unwrap_err();
            assert_eq!(error, ValueError::UnsendableSecret);
            assert!(!format!("{error} {error:?}").contains(text));
        }
    }
}
