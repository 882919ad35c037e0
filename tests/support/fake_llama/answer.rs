//! The bodies that a fake server answers with, in each dialect.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::Shared;
use super::behaviour::{Behaviour, Death};
use super::connection::Busy;
use super::ledger::Task;
use super::service::{cut, held};

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there at once.
pub(super) fn whole(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes()))
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// The API that a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
    Native,
    Embeddings,
}

impl Dialect {
    /// None for a path that takes no slot.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" | "/chat/completions" | "/v1/completions" => Some(Self::OpenAi),
            "/v1/messages" => Some(Self::Anthropic),
            "/completion" | "/completions" | "/infill" => Some(Self::Native),
            "/v1/embeddings" | "/embeddings" | "/embedding" | "/rerank" | "/v1/rerank" => {
                Some(Self::Embeddings)
            }
            _ => None,
        }
    }

    /// The answer of one piece.
    pub(super) fn whole(self, words: usize, model: &str) -> Value {
        let text: String = (0..words).map(word).collect();
        match self {
            Self::OpenAi => json!({
                "object": "chat.completion", "model": model,
                "choices": [{
                    "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text },
                }],
                "usage": { "prompt_tokens": 1, "completion_tokens": words, "total_tokens": words + 1 },
            }),
            Self::Anthropic => json!({
                "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
                "content": [{ "type": "text", "text": text }],
                "usage": { "cache_read_input_tokens": 0, "input_tokens": 1, "output_tokens": words },
            }),
            Self::Native => {
                json!({ "content": text, "stop": true, "model": model, "timings": timings(words) })
            }
            Self::Embeddings => json!({
                "object": "list", "model": model,
                "data": [{ "object": "embedding", "index": 0, "embedding": [0.5, 0.25] }],
            }),
        }
    }

    /// The events of a stream: one for each word, and those that end it.
    pub(super) fn events(self, words: usize) -> VecDeque<Bytes> {
        let mut events: Vec<String> = (0..words).map(|index| self.event(&word(index))).collect();
        match self {
            Self::OpenAi => {
                events.push(data(&json!({
                    "object": "chat.completion.chunk",
                    "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }],
                    "timings": timings(words),
                })));
                events.push("data: [DONE]\n\n".to_owned());
            }
            Self::Anthropic => {
                let usage = json!({ "input_tokens": 1, "output_tokens": words });
                let delta = json!({ "type": "message_delta", "delta": {}, "usage": usage });
                events.push(format!("event: message_delta\n{}", data(&delta)));
                events.push(format!("event: message_stop\n{}", data(&json!({ "type": "message_stop" }))));
            }
            Self::Native => {
                events.push(data(&json!({ "content": "", "stop": true, "timings": timings(words) })));
            }
            Self::Embeddings => {}
        }
        events.into_iter().map(Bytes::from).collect()
    }

    fn event(self, word: &str) -> String {
        match self {
            Self::OpenAi => data(&json!({
                "object": "chat.completion.chunk",
                "choices": [{ "index": 0, "delta": { "content": word }, "finish_reason": null }],
            })),
            Self::Anthropic => {
                let delta = json!({ "type": "text_delta", "text": word });
                let event = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
                format!("event: content_block_delta\n{}", data(&event))
            }
            Self::Native | Self::Embeddings => data(&json!({ "content": word, "stop": false })),
        }
    }
}

/// What llama.cpp says that it took.
fn timings(words: usize) -> Value {
    json!({ "cache_n": 0, "prompt_n": 1, "predicted_n": words })
}

fn word(index: usize) -> String {
    format!("word{index} ")
}

fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// A text in two pieces, so that it can be cut between them.
pub(super) fn halves(text: &str) -> VecDeque<Bytes> {
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    [first, second].into_iter().map(Bytes::copy_from_slice).collect()
}

/// A body whose pieces come one by one. It holds the request's slots: dropped early, its client has left.
pub(super) struct Pieces {
    pub(super) pieces: VecDeque<Bytes>,
    pub(super) behaviour: Behaviour,
    pub(super) task: Task,
    pub(super) busy: Busy,
    pub(super) shared: Arc<Shared>,
}

impl Pieces {
    pub(super) fn into_body(self) -> Body {
        let Self { pieces, behaviour, task, busy, shared } = self;
        let start = (pieces, Some(task), 0_usize);
        let frames = stream::unfold(start, move |(mut pieces, mut task, sent)| {
            let (behaviour, shared) = (behaviour.clone(), Arc::clone(&shared));
            async move {
                if sent == 0
                    && let Some(name) = &behaviour.hold_body
                {
                    held(&shared, name).await;
                }
                if sent == 1 {
                    if let Some(name) = &behaviour.hold_stream {
                        held(&shared, name).await;
                    }
                    if behaviour.die == Some(Death::MidStream) {
                        // A pause is what makes hyper send what it has.
                        yield_now().await;
                        task.take()?.die();
                        return Some((Err(cut()), (VecDeque::new(), None, sent)));
                    }
                }
                if sent > 0 && sent < behaviour.chunks {
                    sleep(behaviour.chunk_delay()).await;
                }
                let piece = pieces.pop_front()?;
                if pieces.is_empty() {
                    task.take()?.complete();
                }
                Some((Ok(Frame::data(piece)), (pieces, task, sent + 1)))
            }
        });
        let body = StreamBody::new(frames);
        // Lives as long as the body does.
        body.map_frame(move |frame| {
            let _ = &busy;
            frame
        })
        .boxed_unsync()
    }
}
