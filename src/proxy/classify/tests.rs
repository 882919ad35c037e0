use http::Method;
use proptest::prelude::*;

use super::{Dialect, Endpoint, Route, route};

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"];

fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap()
}

fn post(path: &str) -> Route {
    route(&Method::POST, path)
}

/// Asserts where each method goes on `path`; those that are not named go to a live instance.
fn check(path: &str, expected: &[(&str, Route)]) {
    for name in METHODS {
        let found = expected.iter().find(|(listed, _)| *listed == name);
        let wanted = found.map_or(Route::Live, |(_, route)| *route);
        assert_eq!(route(&method(name), path), wanted, "{name} {path}");
    }
}

#[test]
fn every_path_that_takes_slots_does_so_by_post_alone() {
    let paths = [
        ("/completion", Endpoint::Completion, Dialect::LlamaCpp),
        ("/completions", Endpoint::Completion, Dialect::LlamaCpp),
        ("/v1/completions", Endpoint::OpenAiCompletion, Dialect::OpenAi),
        ("/chat/completions", Endpoint::Chat, Dialect::OpenAi),
        ("/v1/chat/completions", Endpoint::Chat, Dialect::OpenAi),
        ("/responses", Endpoint::Responses, Dialect::Responses),
        ("/v1/responses", Endpoint::Responses, Dialect::Responses),
        ("/v1/messages", Endpoint::Messages, Dialect::Anthropic),
        ("/audio/transcriptions", Endpoint::Transcription, Dialect::OpenAi),
        ("/v1/audio/transcriptions", Endpoint::Transcription, Dialect::OpenAi),
        ("/infill", Endpoint::Infill, Dialect::LlamaCpp),
        ("/embedding", Endpoint::Embedding, Dialect::LlamaCpp),
        ("/embeddings", Endpoint::Embedding, Dialect::LlamaCpp),
        ("/v1/embeddings", Endpoint::OpenAiEmbedding, Dialect::OpenAi),
        ("/rerank", Endpoint::Rerank, Dialect::LlamaCpp),
        ("/reranking", Endpoint::Rerank, Dialect::LlamaCpp),
        ("/v1/rerank", Endpoint::Rerank, Dialect::LlamaCpp),
        ("/v1/reranking", Endpoint::Rerank, Dialect::LlamaCpp),
    ];
    for (path, endpoint, dialect) in paths {
        check(path, &[("POST", Route::Slot(endpoint))]);
        assert_eq!(post(path).dialect(), dialect, "{path}");
    }
}

#[test]
fn paths_that_need_a_server_but_no_slot() {
    let llamacpp = Route::Server(Dialect::LlamaCpp);
    check("/tokenize", &[("POST", llamacpp)]);
    check("/detokenize", &[("POST", llamacpp)]);
    check("/apply-template", &[("POST", llamacpp)]);
    check("/lora-adapters", &[("POST", llamacpp), ("GET", llamacpp)]);
    check("/v1/messages/count_tokens", &[("POST", Route::Server(Dialect::Anthropic))]);
    check("/v1/chat/completions/control", &[("POST", Route::Server(Dialect::OpenAi))]);
    check("/props", &[("POST", llamacpp), ("GET", Route::Props), ("HEAD", Route::Props)]);
}

#[test]
fn paths_that_are_answered_at_zero_instances() {
    for path in ["/health", "/v1/health"] {
        check(path, &[("GET", Route::Health), ("HEAD", Route::Health)]);
    }
    for path in ["/models", "/v1/models"] {
        check(path, &[("GET", Route::Models), ("HEAD", Route::Models)]);
    }
}

#[test]
fn anything_else_goes_to_a_live_instance() {
    let paths = [
        "",
        "/",
        "*",
        "/metrics",
        "/favicon.ico",
        "/v1",
        "/models/load",
        "/v1/stream/a%3Ab",
        "/toolsmith",
        "/tool",
        "/cors-proxying",
        "/slotsmachine",
        "/v1/tools",
        "/v1/slots",
        "/V1/Chat/Completions",
        "/v1/chat",
        "/%",
        "/%zz",
        "/v1/chat/completions/x",
        "/chat%20completions",
        "/caf%C3%A9",
        "/100%25",
    ];
    for path in paths {
        check(path, &[]);
    }
}

#[test]
fn forbidden_paths_are_blocked_in_every_spelling() {
    let spellings = [
        "/tools",
        "/tools/",
        "//tools",
        "/tools//",
        "///tools///x",
        "/./tools",
        "/tools/.",
        "/a/../tools",
        "/../tools",
        "/a/b/../../tools/x",
        "/tools/..",
        "/tools/../health",
        "/TOOLS",
        "/Tools/Run",
        "tools",
        "\\tools",
        "/a\\..\\tools",
        "/%74ools",
        "/%74%6f%6f%6c%73",
        "/%54OOLS",
        "/tools%2f",
        "/%2ftools",
        "/%2Ftools",
        "/%5ctools",
        "/tools%5cx",
        "/%2e/tools",
        "/a/%2e%2e/tools",
        "/a%2f..%2ftools",
        "/a/.%2e/tools",
        "/%2574ools",
        "/%25%37%34ools",
        "/%252574ools",
        "/%25252574ools",
        "/tools%00",
        "/tools%00.png",
        "/tools;x=1",
        "/tools;/x",
        "/;x/tools",
        "/a/..;/tools",
        "/a/..;x/tools",
        "/tools%3bx",
        "/tools%3fx",
        "/tools%23x",
        "/tools%20",
        "/%20tools",
        "/tools%0a",
        "/tools%09",
        "/%c0%aftools",
        "/a/%c0%ae%c0%ae/tools",
        "/%c1%b4ools",
        "/%e0%80%aftools",
        "/%f0%80%80%aftools",
        "/%e0%81%b4ools",
        "/%25c0%25aftools",
        "/%u0074ools",
        "/%U0074ools",
        "/%u002ftools",
        "/a%u005c..%u005ctools",
        "/cors-proxy",
        "/cors%2dproxy",
        "/Cors-Proxy?",
        "/cors-proxy/x",
        "/a\\b/../cors-proxy",
        "/;%2fa/tools",
        "/%2525252525252574ools",
        "/%252525252525252541",
    ];
    for path in spellings {
        for name in METHODS {
            assert_eq!(route(&method(name), path), Route::Blocked, "{name} {path}");
        }
    }
}

#[test]
fn the_slots_endpoint_is_known_in_every_spelling() {
    let spellings = [
        "/slots",
        "/slots/",
        "/slots/0",
        "/slots/12/x",
        "//slots",
        "/SLOTS",
        "/%73lots",
        "/%2573lots/1",
        "/a/../slots",
        "/slots;x",
        "/slots%00",
        "/slots%2f1",
        "\\slots",
        "/..%5cslots",
        "/%c0%afslots",
    ];
    for path in spellings {
        for name in METHODS {
            assert_eq!(route(&method(name), path), Route::SlotsEndpoint, "{name} {path}");
        }
    }
    assert_eq!(post("/slots/../tools"), Route::Blocked, "the stricter rule wins");
    assert_eq!(post("/slots/%2e%2e/%2574ools"), Route::Blocked, "the stricter rule wins");
}

#[test]
fn an_odd_spelling_of_a_path_that_takes_slots_is_accounted() {
    let spellings = [
        "/v1/chat%2Fcompletions",
        "/v1/chat/completions/",
        "//v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/%76%31/chat/completions",
        "/v1/chat/completions;x",
        "/v1\\chat\\completions",
        "/v1/chat/completion%73",
        "/v1/chat/%2563ompletions",
        "v1/chat/completions",
        "/v1/chat/completions%00",
    ];
    for path in spellings {
        check(path, &[("POST", Route::Slot(Endpoint::Chat))]);
    }
    assert_eq!(post("/%74okenize"), Route::Server(Dialect::LlamaCpp));
    assert_eq!(route(&Method::GET, "/health/"), Route::Health);
}

#[test]
fn other_dialects_of_routes() {
    assert_eq!(post("/v1/messages/count_tokens").dialect(), Dialect::Anthropic);
    assert_eq!(post("/slots").dialect(), Dialect::LlamaCpp);
    assert_eq!(route(&Method::GET, "/props").dialect(), Dialect::LlamaCpp);
    assert_eq!(post("/nowhere").dialect(), Dialect::OpenAi);
}

/// How one character is written: plain, percent-encoded up to four times, overlong, or as `%uXXXX`.
fn written(character: char, how: u8) -> String {
    let code = u32::from(character);
    match how {
        1 => format!("%{code:02x}"),
        2 => format!("%25{code:02X}"),
        3 => format!("%2525{code:02x}"),
        4 => format!("%252525{code:02x}"),
        5 => format!("%{:02x}%{:02X}", 0xc0 | code >> 6, 0x80 | code & 0x3f),
        6 => format!("%e0%{:02x}%{:02x}", 0x80 | code >> 6, 0x80 | code & 0x3f),
        7 => format!("%f0%80%{:02x}%{:02x}", 0x80 | code >> 6, 0x80 | code & 0x3f),
        8 => format!("%u{code:04x}"),
        _ => character.to_string(),
    }
}

proptest! {
    #[test]
    fn arbitrary_paths_do_not_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        path in "[/\\\\.%;?#2fFuU0-9a-c\\PC]{0,48}",
    ) {
        for name in METHODS {
            let _ = route(&method(name), &String::from_utf8_lossy(&bytes));
            let _ = route(&method(name), &path);
        }
    }

    #[test]
    fn any_encoding_of_a_forbidden_path_is_blocked(
        before in prop::sample::select(vec!["", "/", "/.", "/a/..", "/;x", "\\"]),
        name in prop::sample::select(vec!["tools", "cors-proxy"]),
        after in prop::sample::select(vec!["", "/", "/x", "/../health", ";x", "\\"]),
        hows in proptest::collection::vec(0u8..9, 40),
        capital in any::<u64>(),
    ) {
        let plain = format!("{before}/{name}{after}");
        let cased = plain.chars().enumerate().map(|(index, character)| {
            if capital >> index & 1 == 1 { character.to_ascii_uppercase() } else { character }
        });
        let path: String = cased.zip(hows).map(|(character, how)| written(character, how)).collect();
        prop_assert_eq!(route(&Method::GET, &path), Route::Blocked, "{}", path);
    }

    #[test]
    fn any_encoding_of_a_slot_path_takes_a_slot(hows in proptest::collection::vec(0u8..9, 20)) {
        let path: String = "/v1/chat/completions".chars().zip(hows).map(|(c, how)| written(c, how)).collect();
        prop_assert_eq!(post(&path), Route::Slot(Endpoint::Chat), "{}", path);
    }
}
