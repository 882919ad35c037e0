//! What a request wants, from its method, path and body alone: no I/O, no clock.
//!
//! [`route`] reads the head. Only [`Route::Slot`] and [`Route::Server`] may wait, wake an instance or reset
//! the idle clock. [`demand()`] reads the body of a request that takes slots.

mod demand;
mod spelling;

use http::Method;

pub use demand::{Demand, SLOTS_PER_REQUEST_MAX, demand};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Takes slots: waits for them, and wakes an instance.
    Slot(Endpoint),
    /// Needs a server but no slot: waits for one, and wakes an instance.
    Server(Dialect),
    /// The gateway's own health; answered here, at zero instances too.
    Health,
    /// The list of models: a live instance's, else the last known one, else the configured names.
    Models,
    /// The server's properties: a live instance's, else the last known ones.
    Props,
    /// llama.cpp's `/slots` and all below it: forbidden unless enabled, since it shows what others ask.
    SlotsEndpoint,
    /// Never proxied: it would run tools, or fetch any address, on the server's behalf.
    Blocked,
    /// Anything else: goes to a live instance, else is answered at once. It never wakes one.
    Live,
}

impl Route {
    /// In which shape the client expects errors.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Slot(endpoint) => endpoint.dialect(),
            Self::Server(dialect) => dialect,
            Self::Props | Self::SlotsEndpoint => Dialect::LlamaCpp,
            Self::Health | Self::Models | Self::Blocked | Self::Live => Dialect::OpenAi,
        }
    }
}

/// The shape of errors and of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// `{"error":{…}}`, and streams of `data:` lines.
    OpenAi,
    /// `{"type":"error","error":{…}}`, and streams of named events with `ping`.
    Anthropic,
    /// llama.cpp's own API. Its errors have OpenAI's shape.
    LlamaCpp,
    /// OpenAI's Responses API: streams of named, numbered events.
    Responses,
}

/// What takes slots in llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// `/completion`, `/completions`
    Completion,
    /// `/v1/completions`
    OpenAiCompletion,
    /// `/chat/completions`, with and without `/v1`
    Chat,
    /// `/responses`, with and without `/v1`
    Responses,
    /// `/v1/messages`
    Messages,
    /// `/audio/transcriptions`, with and without `/v1`
    Transcription,
    /// `/infill`
    Infill,
    /// `/embedding`, `/embeddings`
    Embedding,
    /// `/v1/embeddings`
    OpenAiEmbedding,
    /// `/rerank`, `/reranking`, with and without `/v1`
    Rerank,
}

impl Endpoint {
    /// The shape of its errors and streams.
    #[must_use]
    pub fn dialect(self) -> Dialect {
        match self {
            Self::OpenAiCompletion | Self::Chat | Self::Transcription | Self::OpenAiEmbedding => {
                Dialect::OpenAi
            }
            Self::Responses => Dialect::Responses,
            Self::Messages => Dialect::Anthropic,
            Self::Completion | Self::Infill | Self::Embedding | Self::Rerank => Dialect::LlamaCpp,
        }
    }

    /// Whether it answers in events if it is asked to.
    #[must_use]
    pub fn streams(self) -> bool {
        match self {
            Self::Completion
            | Self::OpenAiCompletion
            | Self::Chat
            | Self::Responses
            | Self::Messages
            | Self::Infill => true,
            Self::Transcription | Self::Embedding | Self::OpenAiEmbedding | Self::Rerank => false,
        }
    }

    /// What its slots are counted by.
    #[must_use]
    pub fn counting(self) -> Counting {
        match self {
            Self::Completion | Self::OpenAiCompletion => Counting::PromptsTimesChoices,
            // llama.cpp turns Responses into chat and keeps unknown keys, `n` among them; infill reads it too.
            Self::Chat | Self::Responses | Self::Infill => Counting::Choices,
            Self::Embedding | Self::OpenAiEmbedding => Counting::Inputs,
            Self::Rerank => Counting::Documents,
            // Messages are rebuilt key by key, without `n`; a transcription is one prompt.
            Self::Messages | Self::Transcription => Counting::One,
        }
    }
}

/// What the slots of a request are counted by: llama.cpp makes one task of each, and a task takes a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counting {
    /// Always one.
    One,
    /// The answers asked for with `n`.
    Choices,
    /// The prompts, each answered `n` times.
    PromptsTimesChoices,
    /// The texts to embed.
    Inputs,
    /// The documents to rank.
    Documents,
}

/// How often a path is decoded in search of a forbidden one. llama.cpp's HTTP library decodes once; the rest is
/// for whatever may stand between.
const DECODE_ROUNDS_MAX: u32 = 4;

/// Routes by method and by the raw path of the request target, without its query.
///
/// 1. A listed path in its plain spelling goes where the list says.
/// 2. Else every spelling that the path decodes to, itself included, is looked at. One that may be read as
///    `/tools` or `/cors-proxy`, or as something below them, is blocked, whatever the method; so is a path that is
///    still encoded after four rounds. Then the same for `/slots`.
/// 3. Else the first spelling whose canonical form is listed decides. So `/v1/chat%2Fcompletions`, which
///    llama.cpp serves, is accounted like the plain path; a spelling that it does not know costs a 404 under a lease.
/// 4. Else it is [`Route::Live`]. That includes every other method on a path that takes slots.
#[must_use]
pub fn route(method: &Method, path: &str) -> Route {
    let plain = listed(method, path);
    if plain != Route::Live {
        return plain;
    }
    let (mut found, mut is_slots) = (Route::Live, false);
    let mut form = path.as_bytes().to_vec();
    for _ in 0..=DECODE_ROUNDS_MAX {
        let segments = spelling::segments(&form);
        if spelling::may_reach(&segments, &["tools", "cors-proxy"]) {
            return Route::Blocked;
        }
        is_slots |= spelling::may_reach(&segments, &["slots"]);
        if found == Route::Live {
            found = listed(method, &spelling::canonical(&segments));
        }
        match spelling::decoded(&form) {
            Some(next) => form = next,
            None if is_slots => return Route::SlotsEndpoint,
            None => return found,
        }
    }
    Route::Blocked
}

/// llama.cpp's routes, as far as they are not all the same to the gateway. Paths are case-sensitive there.
fn listed(method: &Method, path: &str) -> Route {
    match (method.as_str(), path) {
        ("POST", "/completion" | "/completions") => Route::Slot(Endpoint::Completion),
        ("POST", "/v1/completions") => Route::Slot(Endpoint::OpenAiCompletion),
        ("POST", "/chat/completions" | "/v1/chat/completions") => Route::Slot(Endpoint::Chat),
        ("POST", "/responses" | "/v1/responses") => Route::Slot(Endpoint::Responses),
        ("POST", "/v1/messages") => Route::Slot(Endpoint::Messages),
        ("POST", "/audio/transcriptions" | "/v1/audio/transcriptions") => {
            Route::Slot(Endpoint::Transcription)
        }
        ("POST", "/infill") => Route::Slot(Endpoint::Infill),
        ("POST", "/embedding" | "/embeddings") => Route::Slot(Endpoint::Embedding),
        ("POST", "/v1/embeddings") => Route::Slot(Endpoint::OpenAiEmbedding),
        ("POST", "/rerank" | "/reranking" | "/v1/rerank" | "/v1/reranking") => Route::Slot(Endpoint::Rerank),
        ("POST", "/tokenize" | "/detokenize" | "/apply-template" | "/props")
        | ("GET" | "POST", "/lora-adapters") => Route::Server(Dialect::LlamaCpp),
        ("POST", "/v1/messages/count_tokens") => Route::Server(Dialect::Anthropic),
        ("POST", "/v1/chat/completions/control") => Route::Server(Dialect::OpenAi),
        ("GET" | "HEAD", "/health" | "/v1/health") => Route::Health,
        ("GET" | "HEAD", "/models" | "/v1/models") => Route::Models,
        ("GET" | "HEAD", "/props") => Route::Props,
        _ => Route::Live,
    }
}

#[cfg(test)]
mod tests;
