//! How long a request waited for its slots: all that it had to have.

use std::net::SocketAddr;

use tokio::time::sleep;

use super::*;

/// For the second slot.
const AGAIN: Duration = Duration::from_millis(400);

/// As an agent does while nothing changes.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What an agent says of two free slots of this server.
fn chunk(server: SocketAddr) -> String {
    let report = json!({
        "agent_name": "one", "error": null, "external_llamacpp_addr": server.to_string(), "idle_slots_count": 2,
        "is_authorized": true, "is_slots_endpoint_enabled": true, "processing_slots_count": 0, "heartbeat_ms": 60000, "sample_age_ms": 0,
        "slots": [{"id": 0, "is_processing": false}, {"id": 1, "is_processing": false}],
    })
    .to_string();
    format!("{:x}\r\n{report}\r\n", report.len())
}

/// A server that says 'Loading model' is left alone until its agent reports again; so long its request waits once more.
#[tokio::test]
async fn the_wait_after_an_attempt_that_failed_is_a_wait_too() {
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let paddock = balancer(&[]).await;
    let mut agent = RawClient::connect(paddock.management()).await;
    agent
        .send(format!(
            "POST /status_update/one HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            paddock.management(),
            chunk(fake.addr())
        ))
        .await;
    eventually("its slots are there", SOON, async || {
        (paddock.state().await["pools"][0]["slots_idle"] == json!(2)).then_some(())
    })
    .await;
    fake.set_loading(true);
    let mut client = send(&paddock, request("patient", "POST", CHAT, "", &chat(json!({})))).await;
    until_waiting(&paddock, 1).await;
    fake.set_loading(false);
    sleep(AGAIN).await;
    // A report that may have been on its way when the server said so does not count.
    let reports = async {
        loop {
            agent.send(chunk(fake.addr())).await;
            sleep(REPORT_EVERY).await;
        }
    };
    let answer = tokio::select! {
        answer = client.head() => answer,
        never = reports => never,
    };
    client.body().await;
    let told: u64 = answer.header("x-paddock-queue-ms").unwrap().parse().unwrap();
    assert!(answer.status == 200 && Duration::from_millis(told) >= AGAIN, "{told} ms");
    let line = line(&paddock, "patient").await;
    assert_eq!((&line["attempts"], &line["queue_ms"]), (&json!(2), &json!(told)), "{line}");
    let metrics = http::get(paddock.management(), "/metrics").await.text();
    let of = |what: &str| {
        let name = format!("paddock_queue_wait_seconds_{what}{{pool=\"default\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok()).unwrap()
    };
    assert!(of("count") == 1.0 && of("sum") >= AGAIN.as_secs_f64(), "one wait of {} s", of("sum"));
}
