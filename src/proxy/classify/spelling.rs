//! The many ways to write one path.
//!
//! The reading is the loosest that any server in the way may have, so that nothing forbidden gets past it:
//! a backslash separates, parameters and whatever follows a NUL fall away, blanks around a name do not count,
//! overlong UTF-8 and `%uXXXX` (which llama.cpp's HTTP library knows) are decoded.

/// The names in a path, without empty ones and `.`; `..` is kept.
pub(super) fn segments(form: &[u8]) -> Vec<&[u8]> {
    form.split(|&byte| matches!(byte, b'/' | b'\\'))
        .map(|segment| {
            let end = segment.iter().position(|byte| matches!(byte, b';' | b'?' | b'#' | 0));
            trimmed(&segment[..end.unwrap_or(segment.len())])
        })
        .filter(|name| !name.is_empty() && *name != b".")
        .collect()
}

fn trimmed(mut name: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
    while let [rest @ .., last] = name
        && is_blank(last)
    {
        name = rest;
    }
    while let [first, rest @ ..] = name
        && is_blank(first)
    {
        name = rest;
    }
    name
}

/// Whether some server may read this path as one of these names at the root, or as something below it.
///
/// Where `..` occurs, servers differ on what it removes, so there the name counts at any depth.
pub(super) fn may_reach(segments: &[&[u8]], names: &[&str]) -> bool {
    let depth = if segments.contains(&b"..".as_slice()) { segments.len() } else { 1 };
    let is_named = |segment: &&[u8]| names.iter().any(|name| segment.eq_ignore_ascii_case(name.as_bytes()));
    segments.iter().take(depth).any(is_named)
}

/// The plain spelling: single slashes, dot segments resolved (RFC 3986 section 5.2.4), no slash at the end.
pub(super) fn canonical(segments: &[&[u8]]) -> String {
    let mut kept = Vec::with_capacity(segments.len());
    for &segment in segments {
        if segment == b".." {
            kept.pop();
        } else {
            kept.push(segment);
        }
    }
    let mut path = String::new();
    for segment in kept {
        path.push('/');
        path.push_str(&String::from_utf8_lossy(segment));
    }
    path
}

/// The path with one layer of encoding removed; none if it carries none.
pub(super) fn decoded(form: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(form.len());
    let mut rest = form;
    while let [first, after @ ..] = rest {
        if let Some((character, length)) = code_point(rest).or_else(|| overlong(rest)) {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[length..];
        } else if let Some(byte) = percent(rest) {
            out.push(byte);
            rest = &rest[3..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    // Every kind of escape is longer than what it stands for.
    (out.len() < form.len()).then_some(out)
}

/// `%XX` (RFC 3986 section 2.1).
fn percent(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    u8::try_from(hex(&[*high, *low])?).ok()
}

/// `%uXXXX`, never a standard, and its length.
fn code_point(text: &[u8]) -> Option<(char, usize)> {
    let [b'%', b'u' | b'U', digits @ ..] = text else { return None };
    Some((char::from_u32(hex(digits.get(..4)?)?)?, 6))
}

/// An ASCII character in more bytes than it needs (RFC 3629 section 10 tells of the attack), and its length.
fn overlong(text: &[u8]) -> Option<(char, usize)> {
    let (high, low, length) = match text {
        [high @ 0xc0..=0xc1, low @ 0x80..=0xbf, ..] => (high, low, 2),
        [0xe0, high @ 0x80..=0x81, low @ 0x80..=0xbf, ..] => (high, low, 3),
        [0xf0, 0x80, high @ 0x80..=0x81, low @ 0x80..=0xbf, ..] => (high, low, 4),
        _ => return None,
    };
    Some((char::from((high & 1) << 6 | low & 0x3f), length))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| Some(number << 4 | char::from(digit).to_digit(16)?))
}
