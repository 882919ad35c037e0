//! HTTP/2 in bare frames (RFC 9113), so that a client can say what no library lets it say.

use super::client::{Client, End};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// The longest frame that every peer takes.
const FRAME_BYTES_MAX: usize = 16_384;

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered(u16),
    /// Reset, with this error.
    Reset(u32),
    /// The whole connection ends, with this error.
    Gone(u32),
    Ended(End),
}

/// A connection of bare frames.
pub struct Frames(Client);

impl Frames {
    /// Greets the other side, and asks it not to refer to earlier headers.
    pub async fn open(mut client: Client) -> Self {
        let no_table = [0, 1, 0, 0, 0, 0];
        client
            .send(
                &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, &no_table)].concat(),
            )
            .await;
        Self(client)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.send(bytes).await;
    }

    /// What becomes of the stream.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            match self.next().await {
                Ok((of, outcome)) if of == stream || of == 0 => return outcome,
                Ok(_) => {}
                Err(end) => return Outcome::Ended(end),
            }
        }
    }

    /// The next stream of which something is known; 0 for the connection.
    pub async fn next(&mut self) -> Result<(u32, Outcome), End> {
        loop {
            let head = self.0.bytes(9).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let payload = self.0.bytes(length).await?;
            match (head[3], head[4]) {
                (HEADERS, _) => return Ok((stream, Outcome::Answered(status(&payload)))),
                (RST_STREAM, _) => return Ok((stream, Outcome::Reset(number(&payload)))),
                (GOAWAY, _) => return Ok((0, Outcome::Gone(number(&payload[4..])))),
                (SETTINGS, flags) if flags & ACK == 0 => self.send(&frame(SETTINGS, ACK, 0, &[])).await,
                (PING, flags) if flags & ACK == 0 => self.send(&frame(PING, ACK, 0, &payload)).await,
                _ => {}
            }
        }
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request's frames, or with `data` none and `ends` false its beginning.
pub fn request(
    stream: u32,
    fields: &[(&str, &str)],
    data: Option<&[u8]>,
    trailers: Option<&[(&str, &str)]>,
) -> Vec<u8> {
    let mut bytes = headers(stream, fields, data.is_none() && trailers.is_none());
    if let Some(data) = data {
        let ends = if trailers.is_none() { END_STREAM } else { 0 };
        bytes.extend(frame(DATA, ends, stream, data));
    }
    if let Some(trailers) = trailers {
        bytes.extend(headers(stream, trailers, true));
    }
    bytes
}

/// Headers in as many frames as they need.
pub fn headers(stream: u32, fields: &[(&str, &str)], ends_stream: bool) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    let pieces: Vec<&[u8]> = block.chunks(FRAME_BYTES_MAX).collect();
    let mut bytes = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        let ends_headers = if index + 1 == pieces.len() { END_HEADERS } else { 0 };
        let ends_stream = if ends_stream && index == 0 { END_STREAM } else { 0 };
        bytes.extend(frame(kind, ends_headers | ends_stream, stream, piece));
    }
    bytes
}

pub fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    frame(RST_STREAM, 0, stream, &CANCEL)
}

/// A field as it is, referring to nothing (RFC 7541 section 6.2.2). A value's letters are its bytes.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let value: Vec<u8> = value.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    [&[0], &length(name.len())[..], name.as_bytes(), &length(value.len()), &value].concat()
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(mut rest: usize) -> Vec<u8> {
    if rest < 127 {
        return vec![rest as u8];
    }
    let mut bytes = vec![127];
    rest -= 127;
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

/// The status, which comes first: one of the static table, or three digits in a literal (RFC 7541 appendix A).
fn status(block: &[u8]) -> u16 {
    // The promise that no table is kept comes before it.
    let block = &block[block.iter().take_while(|&&byte| byte & 0xe0 == 0x20).count()..];
    match block {
        [index @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        [0x08 | 0x18 | 0x48, length, code @ ..] if length & 0x80 != 0 => {
            huffman_digits(&code[..usize::from(length & 0x7f)])
        }
        _ => panic!("where is the status? {block:02x?}"),
    }
}

/// Digits of RFC 7541 appendix B: 0, 1 and 2 take five bits, the others six.
fn huffman_digits(code: &[u8]) -> u16 {
    let mut bits = code.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut digit = (0..5).fold(0, |word, _| word << 1 | bits.next().unwrap());
        if digit > 2 {
            digit = (digit << 1 | bits.next().unwrap()) - 0b01_1001 + 3;
        }
        number = number * 10 + digit;
    }
    number
}
