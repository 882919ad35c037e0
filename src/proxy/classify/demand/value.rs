//! JSON values as far as they are looked at: nothing long is kept, and no kind of value is an error.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The longest text that is kept, in bytes; a longer one names no configured model.
const TEXT_BYTES_MAX: usize = 512;

/// A value, or what is left of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Value<'a> {
    /// Missing, or `null`: llama.cpp makes no difference.
    #[default]
    Absent,
    Flag(bool),
    /// Without its fraction, and cut to the range.
    Number(u32),
    /// None if it is too long to be kept.
    Text(Option<Cow<'a, str>>),
    List(List),
    Object,
}

/// An array, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct List {
    length: u32,
    has_number: bool,
    has_other: bool,
}

impl List {
    /// Tokens, or tokens between texts: llama.cpp reads such an array as one prompt.
    fn is_one_prompt(self) -> bool {
        self.has_number && !self.has_other
    }
}

impl Value<'_> {
    /// How many prompts llama.cpp makes of it.
    pub(super) fn prompts(&self) -> u32 {
        match self {
            Self::List(list) if !list.is_one_prompt() => list.length,
            Self::List(_) | Self::Absent | Self::Flag(_) | Self::Number(_) | Self::Text(_) | Self::Object => {
                1
            }
        }
    }

    /// How long the array is; none if it is not one.
    pub(super) fn length(&self) -> Option<u32> {
        match self {
            Self::List(list) => Some(list.length),
            Self::Absent | Self::Flag(_) | Self::Number(_) | Self::Text(_) | Self::Object => None,
        }
    }

    pub(super) fn number(&self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Absent | Self::Flag(_) | Self::Text(_) | Self::List(_) | Self::Object => None,
        }
    }

    pub(super) fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => text.map(Cow::into_owned),
            Self::Absent | Self::Flag(_) | Self::Number(_) | Self::List(_) | Self::Object => None,
        }
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Absent)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(u32::try_from(number).unwrap_or(u32::MAX)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_u64(u64::try_from(number).unwrap_or(0))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Number(number as u32))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text((text.len() <= TEXT_BYTES_MAX).then_some(Cow::Borrowed(text))))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text((text.len() <= TEXT_BYTES_MAX).then(|| Cow::Owned(text.to_owned()))))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut list = List::default();
        while let Some(element) = seq.next_element()? {
            list.length = list.length.saturating_add(1);
            match element {
                Value::Number(_) => list.has_number = true,
                Value::Text(_) => {}
                Value::Absent | Value::Flag(_) | Value::List(_) | Value::Object => list.has_other = true,
            }
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object)
    }
}
