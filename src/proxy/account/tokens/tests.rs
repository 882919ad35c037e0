use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn told(prompt: u64, generated: u64) -> Tokens {
    Tokens { prompt: Some(prompt), generated: Some(generated) }
}

/// Of a body that came in pieces of `size` bytes.
fn of_pieces(form: Form, body: &[u8], size: usize) -> Tokens {
    let mut ends = Ends::new(form);
    body.chunks(size).for_each(|piece| ends.saw(piece));
    ends.tokens(true)
}

/// The same, however it comes.
fn of(form: Form, body: &str) -> Tokens {
    let tokens = of_pieces(form, body.as_bytes(), usize::MAX);
    for size in [1, 7, 500, END_BYTES_MAX - 1, END_BYTES_MAX, END_BYTES_MAX + 1] {
        assert_eq!(of_pieces(form, body.as_bytes(), size), tokens, "in pieces of {size}: {body}");
    }
    tokens
}

fn events(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

/// As llama.cpp writes them, short and long.
fn texts() -> [String; 3] {
    [
        "hi".to_owned(),
        "word ".repeat(3000),
        r#"\"},"usage":{"prompt_tokens":9,"completion_tokens":9}}"#.repeat(200),
    ]
}

#[test]
fn an_answer_of_one_piece_tells_them_behind_its_text() {
    for text in texts() {
        let usage = json!({"completion_tokens": 3, "prompt_tokens": 21, "prompt_tokens_details": {"cached_tokens": 20}});
        let timings = r#"{"cache_n":20,"prompt_n":1,"prompt_ms":0.35,"predicted_n":3,"predicted_ms":0.6}"#;
        let text = Value::from(text);
        for (body, expected) in [
            (
                format!(
                    r#"{{"choices":[{{"message":{{"content":{text}}}}}],"usage":{usage},"timings":{timings}}}"#
                ),
                (21, 3),
            ),
            (format!(r#"{{"choices":[{{"text":{text}}}],"timings":{timings},"usage":{usage}}}"#), (21, 3)),
            (
                format!(
                    "{{\"content\":{text},\"prompt\":{text},\"truncated\":false,\"timings\":{timings}}}\n"
                ),
                (21, 3),
            ),
            (
                format!(
                    r#"{{"content":[{{"text":{text}}}],"usage":{{"cache_read_input_tokens":20,"input_tokens":1,"output_tokens":3}}}}"#
                ),
                (21, 3),
            ),
            (
                format!(
                    r#"{{"output":[{{"text":{text}}}],"usage":{{"input_tokens":21,"output_tokens":3,"input_tokens_details":{{"cached_tokens":20}}}}}}"#
                ),
                (21, 3),
            ),
        ] {
            assert_eq!(of(Form::Json, &body), told(expected.0, expected.1), "{body}");
        }
    }
    let embedding =
        r#"{"object":"list","data":[{"embedding":[0.5]}],"usage":{"prompt_tokens":4,"total_tokens":4}}"#;
    assert_eq!(of(Form::Json, embedding), Tokens { prompt: Some(4), generated: None });
}

#[test]
fn a_stream_tells_them_in_its_last_events() {
    for text in texts() {
        let chunk = json!({"choices": [{"delta": {"content": text}}]});
        let timings = json!({"cache_n": 20, "prompt_n": 1, "predicted_n": 3});
        let usage = json!({"prompt_tokens": 21, "completion_tokens": 3});
        let done = "data: [DONE]\n\n";
        let last = json!({"choices": [{"finish_reason": "length"}], "timings": timings});
        assert_eq!(of(Form::Events, &(events(&[chunk.clone(), last]) + done)), told(21, 3));
        let last = json!({"choices": [], "usage": usage, "timings": {"cache_n": 7, "prompt_n": 7, "predicted_n": 7}});
        assert_eq!(
            of(Form::Events, &(events(&[chunk.clone(), last]) + done)),
            told(21, 3),
            "usage goes first"
        );
        let each =
            json!({"choices": [{"delta": {"content": text}}], "timings": {"prompt_n": 21, "predicted_n": 2}});
        let last = json!({"choices": [], "usage": null});
        assert_eq!(of(Form::Events, &events(&[each.clone(), last])), told(21, 2), "as far as it came");
        assert_eq!(
            of(Form::Events, &(events(&[each]) + "data: {\"timings\":{\"predicted_n\":5}}")),
            told(21, 2)
        );
        let last = json!({"stop": true, "prompt": text, "timings": timings});
        assert_eq!(
            of(Form::Events, &events(&[last])),
            told(21, 3),
            "llama.cpp's own last event has the prompt in it"
        );
        let usage = json!({"input_tokens": 21, "output_tokens": 3});
        let response = json!({"output": [{"text": text}], "usage": usage});
        let last = json!({"type": "response.completed", "response": response});
        let expected = if text.len() < END_BYTES_MAX { told(21, 3) } else { Tokens::default() };
        assert_eq!(
            of(Form::Events, &events(&[last])),
            expected,
            "of what was cut it is not known where it stood"
        );
        let last = format!("data: {{\"response\":{response},\"timings\":{timings}}}\n\n");
        assert_eq!(of(Form::Events, &last), told(21, 3));
    }
}

#[test]
fn anthropics_stream_tells_the_prompt_in_its_first_event() {
    let start = json!({"type": "message_start", "message": {
        "id": "chatcmpl-1", "usage": {"cache_read_input_tokens": 20, "input_tokens": 1, "output_tokens": 0},
    }});
    let end =
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}});
    for text in texts() {
        let delta = json!({"type": "content_block_delta", "delta": {"text": text}});
        let stop = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
        let begun = format!("event: message_start\n{}", events(&[start.clone(), delta]));
        assert_eq!(
            of(Form::Events, &(begun.clone() + &events(std::slice::from_ref(&end)) + stop)),
            told(21, 3)
        );
        let expected = Tokens { prompt: Some(21), generated: None };
        assert_eq!(of(Form::Events, &begun), expected, "it broke off: how much was generated nobody said");
    }
}

#[test]
fn what_stands_elsewhere_is_not_taken() {
    let usage = r#"{"prompt_tokens":9,"completion_tokens":9}"#;
    for body in [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        r#""usage""#.to_owned(),
        format!(r#"{{"choices":[{{"usage":{usage}}}]}}"#),
        format!(r#"{{"message":{{"a":{{"usage":{usage}}}}}}}"#),
        format!(r#"{{"other":{{"usage":{usage}}}}}"#),
        format!(r#"[{{"usage":{usage}}}]"#),
        format!(r#"{{"error":{{"message":"x"}},"user":"usage","x":{usage}}}"#),
        r#"{"usage":null}"#.to_owned(),
        r#"{"usage":"many"}"#.to_owned(),
        r#"{"usage":{"prompt_tokens":-1,"completion_tokens":1.5}}"#.to_owned(),
        r#"{"usage":{"prompt_tokens":99999999999999999999999}}"#.to_owned(),
        format!(r#"{{"usage":{usage}"#),
    ] {
        assert_eq!(of(Form::Json, &body), Tokens::default(), "{body}");
        let event = format!("event: x\n: {body}\nid: {body}\n{body}\n\n");
        assert_eq!(of(Form::Events, &event), Tokens::default(), "{body}");
    }
    let mut ends = Ends::new(Form::Json);
    ends.saw(format!(r#"{{"usage":{usage}}}"#).as_bytes());
    assert_eq!(ends.tokens(false), Tokens::default(), "it broke off");
}

/// Whatever may stand in a text, and what would fool somebody who does not heed escapes.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<String>(),
        Just(r#"\"#.to_owned()),
        Just(r#"""#.to_owned()),
        Just(r#"\""#.to_owned()),
        Just(r#"","usage":{"prompt_tokens":9,"completion_tokens":9}}"#.to_owned()),
        Just("\n\ndata: {\"timings\":{\"prompt_n\":9,\"predicted_n\":9}}\n\n".to_owned()),
        Just("}]}{[".to_owned()),
        "[a-z ]{1,400}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_is_taken_for_a_number(text in text(), key in text(), prompt in 0..1000_u64, generated in 0..1000_u64) {
        let usage = json!({"prompt_tokens": prompt, "completion_tokens": generated});
        let (text, key) = (Value::from(text), Value::from(format!("{key}!")));
        let body = format!(r#"{{"choices":[{{"content":{text}}}],{key}:{text},"usage":{usage}}}"#);
        prop_assert_eq!(of_pieces(Form::Json, body.as_bytes(), 1000), told(prompt, generated));
        let stream = format!("data: {body}\n\ndata: [DONE]\n\n");
        prop_assert_eq!(of_pieces(Form::Events, stream.as_bytes(), 1000), told(prompt, generated));
        // Before the text it is found as long as it is kept: the way there leads through all of it.
        let body = format!(r#"{{"usage":{usage},"choices":[{{"content":{text}}}],{key}:{text}}}"#);
        let is_kept = body.len() <= END_BYTES_MAX;
        if is_kept || body.len() > END_BYTES_MAX + 100 {
            let expected = if is_kept { told(prompt, generated) } else { Tokens::default() };
            prop_assert_eq!(of_pieces(Form::Json, body.as_bytes(), 1000), expected);
        }
        let without = format!(r#"{{"choices":[{{"content":{text}}}],{key}:{text}}}"#);
        prop_assert_eq!(of_pieces(Form::Json, without.as_bytes(), 1000), Tokens::default());
        let stream = format!("data: {without}\n\ndata: [DONE]\n\n");
        prop_assert_eq!(of_pieces(Form::Events, stream.as_bytes(), 1000), Tokens::default());
    }

    #[test]
    fn any_bytes_in_any_pieces_say_the_same(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..3000),
                proptest::sample::select(&[
                    "{", "}", "[", "]", "\"", "\\", ":", ",", "\n", "data:", "usage", "\"usage\":", "timings", "1",
                    "{\"prompt_tokens\":1,\"completion_tokens\":1}", "\"response\":{",
                ][..]).prop_map(|piece| piece.as_bytes().to_vec()),
            ],
            0..40,
        ),
        size in 1..5000_usize,
    ) {
        let body = pieces.concat();
        for form in [Form::Json, Form::Events] {
            let mut ends = Ends::new(form);
            pieces.iter().for_each(|piece| ends.saw(piece));
            prop_assert_eq!(ends.tokens(true), of_pieces(form, &body, size));
            prop_assert!(ends.end.len() <= 2 * END_BYTES_MAX && ends.start.len() <= START_BYTES_MAX);
        }
    }
}
