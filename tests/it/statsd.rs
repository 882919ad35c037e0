//! A real StatsD server reads what the balancer sends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::json;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::http::RawClient;
use crate::support::program::Paddock;
use crate::support::statsd::StatsdServer;
use crate::support::wait::eventually;

/// For what is sent ten times a second.
const SOON: Duration = Duration::from_secs(20);

async fn until(server: &StatsdServer, expected: [(&str, f64); 6]) {
    let expected: BTreeMap<String, f64> =
        expected.into_iter().map(|(name, value)| (format!("gpu.{name}"), value)).collect();
    eventually(&format!("{expected:?}"), SOON, async || {
        let mut gauges = server.gauges().await;
        gauges.retain(|name, _| name.starts_with("gpu."));
        (gauges == expected).then_some(())
    })
    .await;
}

async fn gauges_are_read(ip: IpAddr) {
    let Some(server) = StatsdServer::start(ip).await else { return };
    let addr = server.addr().to_string();
    let flags = ["--statsd-addr", &addr, "--statsd-prefix", "gpu", "--statsd-reporting-interval", "100ms"];
    let paddock = Paddock::start(&[&["--fleet", "none"][..], &flags].concat()).await;
    let gauges = |buffered, idle, processing, agents, wake_wanted| {
        [
            ("requests_buffered", buffered),
            ("slots_idle", idle),
            ("slots_processing", processing),
            ("slots_total", idle + processing),
            ("agents", agents),
            ("wake_wanted", wake_wanted),
        ]
    };
    until(&server, gauges(0.0, 0.0, 0.0, 0.0, 0.0)).await;

    let mut client = RawClient::connect(paddock.proxy()).await;
    client.post("/v1/chat/completions", &json!({"messages": [], "fake": {"hold": "the answer"}})).await;
    until(&server, gauges(1.0, 0.0, 0.0, 0.0, 1.0)).await;

    let llama = FakeLlama::start(FakeConfig { slots: 3, ..FakeConfig::default() }).await;
    let _agent = Paddock::agent(llama.addr(), paddock.management(), &["--monitoring-interval", "100ms"]);
    until(&server, gauges(0.0, 2.0, 1.0, 1.0, 0.0)).await;

    llama.release("the answer");
    assert_eq!(client.answer().await.status, 200);
    until(&server, gauges(0.0, 3.0, 0.0, 1.0, 0.0)).await;
}

#[tokio::test]
async fn a_real_server_reads_the_gauges_over_ipv4() {
    gauges_are_read([127, 0, 0, 1].into()).await;
}

#[tokio::test]
async fn a_real_server_reads_the_gauges_over_ipv6() {
    gauges_are_read(std::net::Ipv6Addr::LOCALHOST.into()).await;
}
