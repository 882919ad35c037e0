//! What is known of the servers while none runs: the last answers to questions about the model.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderValue, Response, header};

/// The longest answer that is remembered: lists of models are short, and a chat template may be long.
pub(super) const KNOWN_BYTES_MAX: usize = 1 << 20;

/// A question about the model that can be answered without a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Models,
    Props,
}

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct Known {
    models: Mutex<Option<Bytes>>,
    props: Mutex<Option<Bytes>>,
}

impl Known {
    fn answer_to(&self, question: Question) -> &Mutex<Option<Bytes>> {
        match question {
            Question::Models => &self.models,
            Question::Props => &self.props,
        }
    }

    pub(super) fn remember(&self, question: Question, answer: Bytes) {
        *self.answer_to(question).lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// The last answer; before the first one an empty list of models, and no properties.
    pub(super) fn response(&self, question: Question) -> Option<Response<Bytes>> {
        let known = self.answer_to(question).lock().unwrap_or_else(PoisonError::into_inner).clone();
        let body = known.or(match question {
            Question::Models => Some(Bytes::from_static(br#"{"object":"list","data":[]}"#)),
            Question::Props => None,
        })?;
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Some(response)
    }
}
