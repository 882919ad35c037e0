//! How many slots a body asks for, of which model, and whether as a stream.
//!
//! Only the top-level keys are read, in one pass and without a value tree. What llama.cpp would refuse counts as
//! one slot: it is forwarded, and llama.cpp says what is wrong.

mod value;

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use self::value::Value;
use super::{Counting, Endpoint};

/// The most slots that one request is counted with: llama.cpp has 256 sequences at most (`LLAMA_MAX_SEQ`), so no
/// server has more slots. What is left queues inside llama.cpp.
pub const SLOTS_PER_REQUEST_MAX: u32 = 256;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    /// Slots, from 1 to [`SLOTS_PER_REQUEST_MAX`].
    pub slots: u32,
    /// The model by name; none if it is not named, or by a name of over 512 bytes.
    pub model: Option<String>,
    /// Whether the answer is to come in pieces.
    pub stream: bool,
}

impl Default for Demand {
    fn default() -> Self {
        Self { slots: 1, model: None, stream: false }
    }
}

/// Reads what the body asks for. Multipart forms (their fields are texts, and `n` must be a number) and invalid
/// JSON give [`Demand::default`].
#[must_use]
pub fn demand(endpoint: Endpoint, content_type: Option<&str>, body: &[u8]) -> Demand {
    if content_type.is_some_and(is_multipart) {
        return Demand::default();
    }
    // llama.cpp's JSON library passes over a byte order mark, serde_json does not.
    let json = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let Ok(keys) = serde_json::from_slice::<Keys<'_>>(json) else { return Demand::default() };
    let slots = keys.tasks(endpoint.counting()).clamp(1, SLOTS_PER_REQUEST_MAX);
    Demand { slots, stream: keys.stream == Value::Flag(true), model: keys.model.text() }
}

/// As llama.cpp's HTTP library has it: case counts, and any other `multipart/` type is read as JSON.
fn is_multipart(content_type: &str) -> bool {
    content_type.split(';').next() == Some("multipart/form-data")
}

/// The values of the keys that matter; of a repeated key the last, as in llama.cpp's JSON library.
#[derive(Default)]
struct Keys<'a> {
    n: Value<'a>,
    n_cmpl: Value<'a>,
    model: Value<'a>,
    stream: Value<'a>,
    prompt: Value<'a>,
    input: Value<'a>,
    content: Value<'a>,
    documents: Value<'a>,
    texts: Value<'a>,
}

impl Keys<'_> {
    fn tasks(&self, counting: Counting) -> u32 {
        // llama.cpp prefers its own name to OpenAI's.
        let choices = self.n_cmpl.number().or(self.n.number()).unwrap_or(1).max(1);
        match counting {
            Counting::One => 1,
            Counting::Choices => choices,
            Counting::PromptsTimesChoices => self.prompt.prompts().saturating_mul(choices),
            Counting::Inputs if self.input != Value::Absent => self.input.prompts(),
            Counting::Inputs => self.content.prompts(),
            // The first is Jina's name, the second that of Text Embeddings Inference.
            Counting::Documents => self.documents.length().or(self.texts.length()).unwrap_or(1),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    N,
    NCmpl,
    Model,
    Stream,
    Prompt,
    Input,
    Content,
    Documents,
    Texts,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Keys<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut keys = Keys::default();
        while let Some(key) = map.next_key()? {
            let place = match key {
                Key::N => &mut keys.n,
                Key::NCmpl => &mut keys.n_cmpl,
                Key::Model => &mut keys.model,
                Key::Stream => &mut keys.stream,
                Key::Prompt => &mut keys.prompt,
                Key::Input => &mut keys.input,
                Key::Content => &mut keys.content,
                Key::Documents => &mut keys.documents,
                Key::Texts => &mut keys.texts,
                Key::Other => {
                    // Skipped by serde_json without recursion, however deep it is.
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *place = map.next_value()?;
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests;
