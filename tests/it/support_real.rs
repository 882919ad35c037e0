//! The real llama.cpp as the tests start it.

use std::time::Duration;

use serde_json::json;

use crate::support::http::{self, RawClient};
use crate::support::openai_clients::{OpenAiLoad, openai_clients};
use crate::support::real_llama::{RealLlama, RealOptions, busy_slots, chat_for, long_prompt, until_idle};
use crate::support::wait::eventually;

const CHAT: &str = "/v1/chat/completions";
/// llama.cpp looks for clients that left after a quiet second, then ends the batch that it is in.
const FREED_WITHIN: Duration = Duration::from_secs(6);

#[tokio::test]
async fn answers_with_as_many_tokens_as_were_asked_for() {
    let llama = RealLlama::start(RealOptions::default()).await;
    let chat = json!({ "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 300 });
    let answer = http::post_json(llama.addr(), CHAT, &chat).await.json();
    assert_eq!(answer["usage"]["completion_tokens"], 300, "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(llama.slots().await, [false; 4]);
}

#[tokio::test]
async fn serves_the_official_client() {
    let llama = RealLlama::start(RealOptions::default()).await;
    let load = OpenAiLoad { count: 6, streaming: 3, max_tokens: 20 };
    let results = openai_clients(llama.addr(), load).await;
    assert_eq!(results.len(), 6);
    assert_eq!(results.iter().filter(|result| result.streaming).count(), 3);
    for result in results {
        assert!(result.ok && result.text > 20 && result.error.is_none(), "{result:?}");
        assert_eq!(result.finish_reason.as_deref(), Some("length"), "{result:?}");
        assert_eq!(result.chunks > 19, result.streaming, "{result:?}");
    }
}

#[tokio::test]
async fn shows_a_busy_slot_and_frees_it_when_the_client_leaves() {
    let options = RealOptions { slots: 2, context: 32_768, ..RealOptions::default() };
    let llama = RealLlama::start(options).await;
    let decoding = chat_for(Duration::from_secs(60), false);
    let streaming = chat_for(Duration::from_secs(60), true);
    for (path, body) in [(CHAT, decoding), (CHAT, streaming), ("/completion", long_prompt(32_000))] {
        let mut client = RawClient::connect(llama.addr()).await;
        client.post(path, &body).await;
        eventually("a slot computes", Duration::from_secs(5), async || {
            llama.slots().await.contains(&true).then_some(())
        })
        .await;
        drop(client);
        until_idle(llama.addr(), FREED_WITHIN).await;
    }
}

#[tokio::test]
async fn keys_and_disabled_slots() {
    let with_key = RealOptions { api_key: Some("secret".to_owned()), ..RealOptions::default() };
    let llama = RealLlama::start(with_key).await;
    assert_eq!(llama.slots().await, [false; 4]);
    assert_eq!(http::get(llama.addr(), "/slots").await.status, 401);

    let without_slots = RealOptions { is_slots_endpoint_disabled: true, ..RealOptions::default() };
    let llama = RealLlama::start(without_slots).await;
    assert_eq!(http::get(llama.addr(), "/slots").await.status, 501);
    assert_eq!(busy_slots(llama.addr(), None).await, None);
}

#[tokio::test]
async fn is_seen_loading_before_it_is_ready() {
    let options = RealOptions { load_delay: Duration::from_millis(700), ..RealOptions::default() };
    let llama = RealLlama::start(options).await;
    eventually("it says that it loads", Duration::from_secs(10), async || {
        http::try_get(llama.addr(), "/health").await.filter(|answer| answer.status == 503)
    })
    .await;
    let ready = eventually("it is ready", Duration::from_secs(10), async || {
        http::try_get(llama.addr(), "/health").await.filter(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(ready.json()["status"], "ok");
}

#[tokio::test]
async fn ends_at_once_when_asked_to() {
    let mut llama = RealLlama::start(RealOptions::default()).await;
    llama.program().sigterm();
    assert!(!llama.program().wait().await.success());
    assert!(http::try_get(llama.addr(), "/health").await.is_none());
}
