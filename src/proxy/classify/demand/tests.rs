use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Demand, SLOTS_PER_REQUEST_MAX, demand};
use crate::proxy::classify::Endpoint;

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

fn read(endpoint: Endpoint, body: &str) -> Demand {
    demand(endpoint, Some("application/json"), body.as_bytes())
}

fn slots(endpoint: Endpoint, body: &str) -> u32 {
    read(endpoint, body).slots
}

#[test]
fn answers_are_counted_where_llamacpp_reads_n() {
    for endpoint in [Endpoint::Chat, Endpoint::Responses, Endpoint::Infill, Endpoint::Completion] {
        assert_eq!(slots(endpoint, r#"{"n":3}"#), 3);
        assert_eq!(slots(endpoint, r#"{"n_cmpl":4}"#), 4);
        assert_eq!(slots(endpoint, r#"{"n":3,"n_cmpl":2}"#), 2);
        assert_eq!(slots(endpoint, r#"{"n":3,"n_cmpl":null}"#), 3);
        assert_eq!(slots(endpoint, r#"{"n":2.9}"#), 2);
        for none in ["0", "-5", "null", "\"7\"", "[3]", "{}", "1e-3", "-1e300"] {
            assert_eq!(slots(endpoint, &format!(r#"{{"n":{none}}}"#)), 1, "{none}");
        }
    }
    for endpoint in [Endpoint::Messages, Endpoint::Transcription, Endpoint::Embedding, Endpoint::Rerank] {
        assert_eq!(slots(endpoint, r#"{"n":3}"#), 1, "{endpoint:?}");
    }
}

#[test]
fn prompts_are_counted_as_llamacpp_splits_them() {
    let prompts = [
        (r#""one""#, 1),
        (r#"["one"]"#, 1),
        (r#"["one","two","three"]"#, 3),
        ("[1,2,3]", 1),
        (r#"[1,"two",3]"#, 1),
        (r#"[[1,2],[3],"four"]"#, 3),
        (r#"[{"prompt_string":"a"},{"prompt_string":"b"}]"#, 2),
        (r#"{"prompt_string":"a"}"#, 1),
        ("[1,[2]]", 2),
        ("null", 1),
    ];
    for (value, count) in prompts {
        for endpoint in [Endpoint::Completion, Endpoint::OpenAiCompletion] {
            assert_eq!(slots(endpoint, &format!(r#"{{"prompt":{value}}}"#)), count, "{value}");
            assert_eq!(slots(endpoint, &format!(r#"{{"n":2,"prompt":{value}}}"#)), count * 2, "{value}");
        }
        for endpoint in [Endpoint::Embedding, Endpoint::OpenAiEmbedding] {
            assert_eq!(slots(endpoint, &format!(r#"{{"input":{value}}}"#)), count, "{value}");
            assert_eq!(slots(endpoint, &format!(r#"{{"content":{value}}}"#)), count, "{value}");
        }
        assert_eq!(slots(Endpoint::Chat, &format!(r#"{{"prompt":{value}}}"#)), 1, "{value}");
    }
    assert_eq!(slots(Endpoint::Completion, r#"{"prompt":[],"n":2}"#), 1, "llama.cpp refuses it");
    assert_eq!(slots(Endpoint::Embedding, r#"{"content":["a","b","c"],"input":["a","b"]}"#), 2);
}

#[test]
fn documents_are_counted_under_both_names() {
    assert_eq!(slots(Endpoint::Rerank, r#"{"query":"q","documents":["a","b"]}"#), 2);
    assert_eq!(slots(Endpoint::Rerank, r#"{"query":"q","texts":["a","b","c"]}"#), 3);
    assert_eq!(slots(Endpoint::Rerank, r#"{"texts":["a","b","c"],"documents":["a","b"]}"#), 2);
    assert_eq!(slots(Endpoint::Rerank, r#"{"documents":"a","texts":["a","b","c"]}"#), 3);
    assert_eq!(slots(Endpoint::Rerank, r#"{"documents":[]}"#), 1);
}

#[test]
fn no_request_counts_more_slots_than_a_server_can_have() {
    let many = format!(r#"{{"prompt":{},"n":4294967295}}"#, json!(vec!["x"; 1000]));
    assert_eq!(slots(Endpoint::Completion, &many), SLOTS_PER_REQUEST_MAX);
    assert_eq!(slots(Endpoint::Chat, r#"{"n":18446744073709551615}"#), SLOTS_PER_REQUEST_MAX);
    assert_eq!(slots(Endpoint::Chat, r#"{"n":1e300}"#), SLOTS_PER_REQUEST_MAX);
}

#[test]
fn model_and_stream_are_read() {
    let body = r#" {"messages":[{"role":"user","content":"a\nb"}],"model":"m","stream":true} "#;
    assert_eq!(read(Endpoint::Chat, body), Demand { slots: 1, model: Some("m".into()), stream: true });
    assert_eq!(read(Endpoint::Chat, r#"{"model":"\u006d\"","stream":false}"#).model.as_deref(), Some("m\""));
    assert_eq!(read(Endpoint::Chat, r#"{"model":5,"stream":1}"#), Demand::default());
    assert_eq!(read(Endpoint::Chat, r#"{"model":null,"stream":"true"}"#), Demand::default());
    assert_eq!(read(Endpoint::Chat, &json!({"model": "m".repeat(513)}).to_string()).model, None);
    assert_eq!(
        read(Endpoint::Chat, &json!({"x": {"model": "m", "n": 4, "stream": true}}).to_string()).slots,
        1
    );
}

#[test]
fn of_a_repeated_key_the_last_counts() {
    let body = r#"{"n":4,"model":"a","stream":true,"n":2,"\u006eope":1,"model":"b","stream":false}"#;
    assert_eq!(read(Endpoint::Chat, body), Demand { slots: 2, model: Some("b".into()), stream: false });
    assert_eq!(slots(Endpoint::Chat, r#"{"n":1,"\u006e":5}"#), 5);
}

#[test]
fn what_is_not_json_counts_one_slot() {
    let bodies =
        ["", " ", "{", "[]", "\"n\"", "null", r#"{"n":4"#, r#"{"n":4}}"#, r#"{"n":4,}"#, r#"{"n":04}"#];
    for body in bodies {
        assert_eq!(read(Endpoint::Chat, body), Demand::default(), "{body}");
    }
    assert_eq!(demand(Endpoint::Chat, None, b"{\"model\":\"\xff\",\"n\":4}"), Demand::default());
}

#[test]
fn a_byte_order_mark_and_a_foreign_content_type_do_not_hide_a_body() {
    assert_eq!(demand(Endpoint::Chat, Some("text/plain"), b"\xef\xbb\xbf{\"n\":4}").slots, 4);
    assert_eq!(demand(Endpoint::Chat, None, b"{\"n\":4}").slots, 4);
}

#[test]
fn only_what_llamacpp_takes_for_a_form_is_left_unread() {
    let body = br#"{"n":4,"model":"m","stream":true}"#;
    for form in ["multipart/form-data; boundary=x", "multipart/form-data"] {
        assert_eq!(demand(Endpoint::Chat, Some(form), body), Demand::default(), "{form}");
    }
    for json in ["multipart/mixed; boundary=x", "Multipart/Form-Data; boundary=x", "multipart/form-datax", ""]
    {
        assert_eq!(demand(Endpoint::Chat, Some(json), body).slots, 4, "{json}");
    }
    let form = b"--x\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\n\xff\xfb\r\n--x--";
    assert_eq!(
        demand(Endpoint::Transcription, Some("multipart/form-data; boundary=x"), form),
        Demand::default()
    );
}

#[test]
fn depth_neither_hides_a_count_nor_costs_stack() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(slots(Endpoint::Chat, &format!(r#"{{"messages":{deep},"n":4}}"#)), 4);
    assert_eq!(slots(Endpoint::Completion, &format!(r#"{{"prompt":{deep},"n":4}}"#)), 1);
}

/// The same count over a whole value tree.
fn reference(endpoint: Endpoint, body: &Json) -> u64 {
    let number = |key: &str| body[key].as_f64().map(|n| n as u64);
    let n = number("n_cmpl").or(number("n")).unwrap_or(1).max(1);
    let prompts = |value: &Json| {
        let Some(list) = value.as_array() else { return 1 };
        let tokens = list.iter().any(Json::is_number) && list.iter().all(|e| e.is_number() || e.is_string());
        if tokens { 1 } else { list.len() as u64 }
    };
    let count = match endpoint {
        Endpoint::Completion | Endpoint::OpenAiCompletion => n * prompts(&body["prompt"]),
        Endpoint::Chat | Endpoint::Responses | Endpoint::Infill => n,
        Endpoint::Embedding | Endpoint::OpenAiEmbedding if body["input"].is_null() => {
            prompts(&body["content"])
        }
        Endpoint::Embedding | Endpoint::OpenAiEmbedding => prompts(&body["input"]),
        Endpoint::Rerank => {
            let list = body["documents"].as_array().or(body["texts"].as_array());
            list.map_or(1, |list| list.len() as u64)
        }
        Endpoint::Messages | Endpoint::Transcription => 1,
    };
    count.clamp(1, u64::from(SLOTS_PER_REQUEST_MAX))
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-2i64..400).prop_map(Json::from),
        (0.0..9.0).prop_map(|n: f64| json!(n)),
        "\\PC{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 40, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Json::from),
            proptest::collection::btree_map("[a-z\"\\\\]{0,3}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..80) {
        let body = br#"{"n":2,"prompt":["a",[1,2]],"model":"m\u00e9","stream":true,"input":{"x":1e5}}"#;
        for endpoint in ENDPOINTS {
            let _ = demand(endpoint, None, &bytes);
            let _ = demand(endpoint, Some(&String::from_utf8_lossy(&bytes)), &body[..cut.min(body.len())]);
        }
    }

    #[test]
    fn the_count_is_that_of_a_whole_value_tree(
        keys in proptest::collection::vec(
            (
                prop::sample::select(vec![
                    "n", "n_cmpl", "model", "stream", "prompt", "input", "content", "documents", "texts", "messages",
                ]),
                any_json(),
            ),
            0..12,
        ),
    ) {
        let members: Vec<String> = keys.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        let text = format!("{{{}}}", members.join(","));
        let tree: Json = serde_json::from_str(&text).unwrap();
        for endpoint in ENDPOINTS {
            let found = read(endpoint, &text);
            prop_assert_eq!(u64::from(found.slots), reference(endpoint, &tree), "{:?} {}", endpoint, text);
            prop_assert_eq!(found.model.as_deref(), tree["model"].as_str());
            prop_assert_eq!(found.stream, tree["stream"] == json!(true));
        }
    }
}
