//! What is asked of the parsers, whatever bytes they get. `fuzz_targets/` hands it to libFuzzer, `tests/it/corpus.rs` plays
//! the corpus and random changes of it.

use http::Method;
use paddock::core::PoolId;
use paddock::protocol::{Frames, SLOTS_MAX, StatusUpdate};
use paddock::proxy::classify::{self, Endpoint, Route, SLOTS_PER_REQUEST_MAX};
use paddock::proxy::sse::Tail;

/// An agent's reports: how TCP cuts them changes nothing, and what is believed is bounded.
pub fn report(data: &[u8]) {
    let (whole, is_sound) = read([data]);
    for size in [1, 2, 7, data.len() / 2].into_iter().filter(|&size| size > 0) {
        // What cannot become a report is found out later in pieces, but nothing else is taken for that.
        let (cut, is_cut_sound) = read(data.chunks(size));
        assert_eq!(cut, whole, "in pieces of {size}");
        assert!(is_cut_sound || !is_sound, "in pieces of {size}");
    }
    for update in whole {
        let again = serde_json_of(&update);
        assert_eq!(read([again.as_slice()]), (vec![update.clone()], true));
        let report = update.into_report(PoolId(0), ([127, 0, 0, 1], 1).into());
        assert!(report.slots_busy <= report.slots_total && report.slots_total <= SLOTS_MAX);
        for text in
            [report.error.as_deref(), report.name.as_deref(), report.zone.as_deref()].into_iter().flatten()
        {
            assert!(text.len() <= 1024 && !text.chars().any(char::is_control));
        }
    }
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<StatusUpdate>, bool) {
    let (mut frames, mut updates) = (Frames::default(), Vec::new());
    for piece in pieces {
        frames.push(piece);
        loop {
            match frames.next() {
                Ok(Some(update)) => updates.push(update),
                Ok(None) => break,
                Err(_) => return (updates, false),
            }
        }
    }
    (updates, true)
}

fn serde_json_of(update: &StatusUpdate) -> Vec<u8> {
    serde_json::to_vec(update).expect("a report can be written")
}

/// Paths: what leads anywhere is not a spelling of a path that is closed. The first byte chooses the method.
pub fn route(data: &[u8]) {
    const METHODS: [Method; 4] = [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS];
    let Some((&first, path)) = data.split_first() else { return };
    let method = &METHODS[usize::from(first) % METHODS.len()];
    let path = String::from_utf8_lossy(path);
    let found = classify::route(method, &path);
    let name = seen_by_a_server(&path);
    let is_closed = |closed: &str| name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(closed));
    if is_closed("tools") || is_closed("cors-proxy") {
        assert_eq!(found, Route::Blocked, "{path:?}");
    }
    if is_closed("slots") {
        assert!(matches!(found, Route::SlotsEndpoint | Route::Blocked), "{path:?}");
    }
    // The same path closed in front, in any of these spellings, is closed.
    for (before, is_tools) in
        [("/tools/", true), ("//%74ools/", true), ("/%2574ools/", true), ("/./slots/", false)]
    {
        let closed = classify::route(method, &format!("{before}{path}"));
        assert!(
            closed == Route::Blocked || (!is_tools && closed == Route::SlotsEndpoint),
            "{before}{path:?}"
        );
    }
}

/// The first name that a server sees which decodes the path once, and takes out empty names and dots (RFC 3986).
fn seen_by_a_server(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let (mut decoded, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escape = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let byte = escape
            .filter(|two| bytes[at] == b'%' && two.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        decoded.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let mut names = Vec::new();
    for name in decoded.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    names.first().map(|&name| name.to_owned())
}

/// Bodies: a request takes at least one slot, and no more than any server has.
pub fn demand(data: &[u8]) {
    const ENDPOINTS: [Endpoint; 10] = [
        Endpoint::Completion,
        Endpoint::OpenAiCompletion,
        Endpoint::Chat,
        Endpoint::Responses,
        Endpoint::Messages,
        Endpoint::Transcription,
        Endpoint::Infill,
        Endpoint::Embedding,
        Endpoint::OpenAiEmbedding,
        Endpoint::Rerank,
    ];
    for endpoint in ENDPOINTS {
        let demand = classify::demand(endpoint, Some("application/json"), data);
        assert!((1..=SLOTS_PER_REQUEST_MAX).contains(&demand.slots), "{endpoint:?}");
        assert!(demand.model.is_none_or(|model| model.len() <= 512));
        assert_eq!(classify::demand(endpoint, Some("multipart/form-data; boundary=x"), data).slots, 1);
    }
    // What serde_json takes for a stream is one, and nothing else is.
    let says = serde_json::from_slice::<serde_json::Value>(data).ok();
    let streams = says.as_ref().is_some_and(|body| body.get("stream") == Some(&true.into()));
    if says.is_some() {
        assert_eq!(classify::demand(Endpoint::Chat, None, data).stream, streams);
    }
}

/// Event streams: wherever one breaks off, an event that is put behind it begins on a line of its own, and is not part of
/// the event before.
pub fn sse(data: &[u8]) {
    let tail = |pieces: &[&[u8]]| {
        let mut tail = Tail::default();
        pieces.iter().for_each(|piece| tail.saw(piece));
        tail.gap()
    };
    let gap = tail(&[data]);
    for cut in 0..=data.len().min(64) {
        let (a, b) = data.split_at(cut);
        assert_eq!(tail(&[a, b]), gap, "cut at {cut}");
    }
    let (line, is_within) = rest(&[data, gap.as_bytes()].concat());
    assert!(line.is_empty() && !is_within, "{:?} and {gap:?}", String::from_utf8_lossy(data));
}

/// What a reader has of a line that did not end, and whether it is within an event (HTML, section 9.2.6).
fn rest(stream: &[u8]) -> (Vec<u8>, bool) {
    let (mut line, mut is_within, mut after_cr) = (Vec::new(), false, false);
    for &byte in stream {
        match byte {
            b'\n' if after_cr => {}
            b'\n' | b'\r' => {
                is_within = !line.is_empty();
                line.clear();
            }
            byte => line.push(byte),
        }
        after_cr = byte == b'\r';
    }
    (line, is_within)
}
