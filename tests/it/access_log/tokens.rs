//! Tokens are logged as the answers tell them, in each dialect, streamed and not.

use serde_json::{Value, json};

use super::{CHAT, Scene, ask, line, request, scene};
use crate::support::fake_llama::FakeConfig;
use crate::support::http;
use crate::support::program::Paddock;
use crate::support::real_llama::{RealLlama, RealOptions};
use crate::support::wait::eventually;

fn told(line: &Value) -> (Option<u64>, Option<u64>) {
    (line["prompt_tokens"].as_u64(), line["generated_tokens"].as_u64())
}

#[tokio::test]
async fn a_fake_server_tells_them_in_each_dialect() {
    let scene = scene(&[], FakeConfig::default()).await;
    let Scene { paddock, .. } = &scene;
    for (number, path) in
        [CHAT, "/v1/completions", "/v1/messages", "/completion", "/infill"].into_iter().enumerate()
    {
        for stream in [false, true] {
            let id = format!("{number}-{stream}");
            let body = json!({"stream": stream, "fake": {"chunks": 40, "chunk_delay_ms": 1}});
            let answer = ask(paddock, request(&id, "POST", path, "", &body)).await;
            assert_eq!(answer.status, 200);
            let line = line(paddock, &id).await;
            assert_eq!(told(&line), (Some(1), Some(40)), "{path} {line}");
            assert_eq!(line["response_bytes"], answer.body.len(), "{line}");
        }
    }
    let broken = json!({"stream": true, "fake": {"die": "mid_stream"}});
    ask(paddock, request("broken", "POST", CHAT, "", &broken)).await;
    assert_eq!(told(&line(paddock, "broken").await), (None, None), "nobody said");
    ask(paddock, request("embedding", "POST", "/v1/embeddings", "", &json!({}))).await;
    assert_eq!(told(&line(paddock, "embedding").await), (None, None), "nor here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn llama_cpp_tells_them_in_each_dialect() {
    let llama = RealLlama::start(RealOptions::default()).await;
    let paddock = super::balancer(&[]).await;
    let _agent = Paddock::agent(llama.addr(), paddock.management(), &[]);
    eventually("it is there", super::SOON, async || {
        (paddock.state().await["pools"][0]["slots_idle"] == json!(4)).then_some(())
    })
    .await;
    let messages = json!([{"role": "user", "content": "name some words"}]);
    // More words than the ends of an answer hold.
    let words = 1000;
    for (number, (path, body)) in [
        (CHAT, json!({"messages": messages, "max_tokens": words})),
        (CHAT, json!({"messages": messages, "max_tokens": words, "stream_options": {"include_usage": true}})),
        ("/v1/completions", json!({"prompt": "some words", "max_tokens": words})),
        ("/completion", json!({"prompt": "some words ".repeat(100), "n_predict": words})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": words})),
        ("/v1/responses", json!({"input": "some words", "max_output_tokens": words})),
    ]
    .into_iter()
    .enumerate()
    {
        let mut prompts = Vec::new();
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = json!(stream);
            if !stream && let Some(body) = body.as_object_mut() {
                body.remove("stream_options");
            }
            let id = format!("{number}-{stream}");
            let mut client = super::send(&paddock, request(&id, "POST", path, "", &body)).await;
            assert_eq!(client.head().await.status, 200, "{path}");
            let (answer, is_whole) = client.body().await;
            assert!(is_whole && answer.len() > 4096, "{path}");
            let line = line(&paddock, &id).await;
            let (prompt, generated) = told(&line);
            assert_eq!(generated, Some(words as u64), "{path} {line}");
            prompts.push(prompt.unwrap());
        }
        assert!(
            prompts[0] > 2 && prompts[0] == prompts[1],
            "{path}: the cached part is counted: {prompts:?}"
        );
    }
    assert_eq!(http::get(paddock.proxy(), "/v1/models").await.status, 200);
}
