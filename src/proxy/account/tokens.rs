//! How many tokens an answer took, read from its end: nothing of its text is kept longer than the answer runs.
//!
//! llama.cpp tells them in every dialect, and always behind the text:
//!
//! | dialect | where |
//! |---|---|
//! | OpenAI, llama.cpp | `usage.prompt_tokens`, `usage.completion_tokens`; `timings.cache_n`, `.prompt_n`, `.predicted_n` |
//! | Responses | `usage.input_tokens`, `usage.output_tokens`; in a stream within `response`, and `timings` beside it |
//! | Anthropic | the same names, where what came from the cache is told apart; a stream tells the prompt in its first event |
//!
//! A document whose beginning was let go of is read from its end. That is exact: what a JSON text ends in is no part of
//! a string, and a quote within a string has a backslash before it. So no text that a model writes can be taken for
//! a number of tokens.

use serde::Deserialize;

/// What is kept of an answer's end, in bytes. Behind the text stand the numbers and little else: about 600 bytes.
const END_BYTES_MAX: usize = 4096;
/// What is kept of a stream's beginning, in bytes: Anthropic's first event has about 350.
const START_BYTES_MAX: usize = 1024;

/// What an answer says that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tokens {
    /// The whole prompt, what was cached of it included.
    pub(super) prompt: Option<u64>,
    pub(super) generated: Option<u64>,
}

/// What an answer's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Events,
}

/// The two ends of an answer's body.
#[derive(Debug)]
pub(super) struct Ends {
    form: Form,
    start: Vec<u8>,
    /// Up to twice what is kept, so that it is seldom moved.
    end: Vec<u8>,
    /// Whether something before `end` was let go of.
    is_cut: bool,
}

impl Ends {
    pub(super) fn new(form: Form) -> Self {
        Self { form, start: Vec::new(), end: Vec::new(), is_cut: false }
    }

    /// The next part of the body has come.
    pub(super) fn saw(&mut self, data: &[u8]) {
        if self.form == Form::Events && self.start.len() < START_BYTES_MAX {
            let room = START_BYTES_MAX - self.start.len();
            self.start.extend_from_slice(&data[..data.len().min(room)]);
        }
        let kept = &data[data.len().saturating_sub(END_BYTES_MAX)..];
        let surplus = (self.end.len() + kept.len()).saturating_sub(END_BYTES_MAX);
        self.is_cut |= kept.len() < data.len() || surplus > 0;
        if self.end.len() + kept.len() > 2 * END_BYTES_MAX {
            self.end.drain(..surplus.min(self.end.len()));
        }
        self.end.extend_from_slice(kept);
    }

    /// What it says; of plain JSON only if it came to its end.
    pub(super) fn tokens(&self, is_whole: bool) -> Tokens {
        let end = &self.end[self.end.len().saturating_sub(END_BYTES_MAX)..];
        let mut tokens = Tokens::default();
        match self.form {
            Form::Json if is_whole => tokens.add(&Told::read(end)),
            Form::Json => {}
            Form::Events => {
                for line in lines(end).rev() {
                    let is_cut = self.is_cut && std::ptr::eq(line.as_ptr(), end.as_ptr());
                    let data = line.strip_prefix(b"data:").or(is_cut.then_some(line));
                    data.iter().for_each(|data| tokens.add(&Told::read(data)));
                    if tokens.prompt.is_some() && tokens.generated.is_some() {
                        return tokens;
                    }
                }
                let data = lines(&self.start).filter_map(|line| line.strip_prefix(b"data:"));
                data.for_each(|data| tokens.add(&Told::read(data)));
            }
        }
        tokens
    }
}

/// The lines that have an end.
fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |last| &text[..last]);
    whole.split(|byte| *byte == b'\n')
}

impl Tokens {
    /// What is known already stood further behind, and stays.
    fn add(&mut self, told: &Told) {
        let sum = |parts: [Option<u64>; 3]| parts.into_iter().flatten().fold(0, u64::saturating_add);
        let prompt = |usage: &Usage| {
            usage.prompt_tokens.or_else(|| {
                let input = usage.input_tokens?;
                Some(sum([Some(input), usage.cache_read_input_tokens, usage.cache_creation_input_tokens]))
            })
        };
        let (usage, timings) = (told.usage.as_ref(), told.timings.as_ref());
        let timed =
            || timings.and_then(|timings| Some(sum([timings.prompt_n?.into(), timings.cache_n, None])));
        let begun = || told.begun.as_ref().and_then(prompt);
        self.prompt = self.prompt.or_else(|| usage.and_then(prompt)).or_else(timed).or_else(begun);
        self.generated = self
            .generated
            .or_else(|| usage.and_then(|usage| usage.completion_tokens.or(usage.output_tokens)))
            .or_else(|| timings.and_then(|timings| timings.predicted_n));
    }
}

#[derive(Debug, Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Timings {
    cache_n: Option<u64>,
    prompt_n: Option<u64>,
    predicted_n: Option<u64>,
}

/// What one document says.
#[derive(Debug, Default)]
struct Told {
    usage: Option<Usage>,
    timings: Option<Timings>,
    /// Of an answer that just begins: nothing of it is generated yet.
    begun: Option<Usage>,
}

impl Told {
    /// Reads an object from its end to its beginning, or to where it was cut.
    ///
    /// 1. Outside of strings only brackets, commas and colons matter: they tell how deep something stands, and where
    ///    a value ends and begins.
    /// 2. Of the object itself, `usage` and `timings` count.
    /// 3. One level deeper `usage` counts if that object turns out to be `response` or `message`.
    fn read(text: &[u8]) -> Self {
        let text = text.trim_ascii_end();
        let mut told = Self::default();
        if !text.ends_with(b"}") {
            return told;
        }
        let (mut at, mut depth) = (text.len(), 0_usize);
        // For the object and for what is one level deeper: where the value ends that is being passed.
        let mut value_ends = [at; 2];
        let mut value: Option<&[u8]> = None;
        let mut deeper: Option<&[u8]> = None;
        while let Some(before) = at.checked_sub(1) {
            at = before;
            match text[at] {
                b'}' | b']' => {
                    depth += 1;
                    if let Some(end) = value_ends.get_mut(depth - 1) {
                        *end = at;
                    }
                }
                b'{' | b'[' if depth <= 1 => return told,
                b'{' | b'[' => depth -= 1,
                b',' => {
                    if let Some(end) = value_ends.get_mut(depth - 1) {
                        *end = at;
                    }
                }
                b':' => value = value_ends.get(depth - 1).and_then(|end| text.get(at + 1..*end)),
                b'"' => {
                    let Some(quote) = opening_quote(&text[..at]) else { return told };
                    let word = &text[quote + 1..at];
                    at = quote;
                    match (value.take(), depth) {
                        (Some(value), 1) => told.member(word, value, deeper.take()),
                        (Some(value), 2) if word == b"usage" => deeper = deeper.or(Some(value)),
                        (Some(_) | None, _) => {}
                    }
                }
                _ => {}
            }
        }
        told
    }

    /// A member of the object, and the `usage` in it.
    fn member(&mut self, key: &[u8], value: &[u8], usage: Option<&[u8]>) {
        let read = |text| serde_json::from_slice(text).ok();
        match key {
            b"usage" => self.usage = self.usage.take().or_else(|| read(value)),
            b"response" => self.usage = self.usage.take().or_else(|| usage.and_then(read)),
            b"message" => self.begun = self.begun.take().or_else(|| usage.and_then(read)),
            b"timings" => {
                self.timings = self.timings.take().or_else(|| serde_json::from_slice(value).ok());
            }
            _ => {}
        }
    }
}

/// Where the string begins that ends behind this text. A quote behind an odd number of backslashes is one of its own.
fn opening_quote(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    loop {
        let quote = text[..end].iter().rposition(|byte| *byte == b'"')?;
        let slashes = text[..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        if slashes % 2 == 0 {
            return Some(quote);
        }
        end = quote;
    }
}

#[cfg(test)]
mod tests;
