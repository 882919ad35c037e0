//! A real Prometheus scrapes the balancer, with its token, and tells what it found: each instrument after it was moved to
//! a known value, and every expression of the board.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fake_aws::{
    AgentConfig, FakeAws, FakeAwsConfig, Fault, GroupConfig, LlamaConfig, MachineConfig, Times,
};
use crate::support::fake_llama::FakeConfig;
use crate::support::http::{self, Answer, RawClient, post_json};
use crate::support::program::Paddock;
use crate::support::prometheus::Prometheus;
use crate::support::tool;
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
const TOKEN: &str = "sesame";
/// USD for an hour: a thousandth for each second.
const PRICE: &str = "3.6";
const BOARD: &str = "infra/grafana/paddock.json";
/// What Grafana puts in place of its variables.
const VARIABLES: [(&str, &str); 3] = [("$pool", "default"), ("$__rate_interval", "1m"), ("$__range", "6h")];

/// AWS with one group whose instances have two slots, the gateway, and who watches it.
struct Scene {
    aws: FakeAws,
    paddock: Paddock,
    prometheus: Prometheus,
}

impl Scene {
    async fn start() -> Option<Self> {
        let (proxy, management) = (free_addr(), free_addr());
        let AgentConfig::Started { management: reports_to, external, mut flags } =
            AgentConfig::reporting_to(management)
        else {
            unreachable!()
        };
        flags.extend(["--management-token".to_owned(), TOKEN.to_owned()]);
        let agent = AgentConfig::Started { management: reports_to, external, flags };
        let llama = LlamaConfig::Fake(FakeConfig { slots: 2, ..FakeConfig::default() });
        // Long enough that a scrape sees each part of the boot.
        let times =
            Times { pending: Duration::from_secs(1), load: Duration::from_secs(2), ..Times::default() };
        let machine = MachineConfig { llama, agent, ..MachineConfig::default() };
        let aws =
            FakeAws::start(FakeAwsConfig::of(GroupConfig { times, machine, ..GroupConfig::default() })).await;
        let flags = ["--asg-name", "gpu", "--min-instance-life", "0s", "--idle-timeout", "15s"];
        let flags = [&flags[..], &["--management-token", TOKEN, "--price-per-hour", PRICE]].concat();
        let paddock = Paddock::start_on_in(&aws.environment(), proxy, management, &flags).await;
        let prometheus = Prometheus::start(management, TOKEN).await?;
        Some(Self { aws, paddock, prometheus })
    }

    async fn until(&self, expression: &str, value: f64) {
        self.prometheus.until(expression, value).await;
    }

    async fn ask(&self, fake: Value) -> Answer {
        post_json(self.paddock.proxy(), CHAT, &chat(fake)).await
    }

    /// One request ended so.
    async fn until_ended(&self, outcome: &str, times: f64) {
        self.until(&format!("paddock_requests_total{{outcome=\"{outcome}\"}}"), times).await;
    }

    async fn until_instances(&self, state: &str, count: f64) {
        self.until(&format!("paddock_instances{{state=\"{state}\"}}"), count).await;
    }
}

fn chat(fake: Value) -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}], "fake": fake})
}

#[tokio::test]
async fn each_instrument_has_the_value_that_it_was_moved_to() {
    let Some(scene) = Scene::start().await else { return };
    let at_rest = ["requests_buffered", "buffered_bytes", "slots", "agents", "wake_wanted"];
    for gauge in at_rest {
        scene.until(&format!("paddock_{gauge}{{pool=\"default\"}}"), 0.0).await;
    }
    scene.until("sum(paddock_requests_total) + sum(paddock_wakes_total)", 0.0).await;
    scene.until(&format!("paddock_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0).await;

    scene.until("paddock_instance_seconds_total{pool=\"default\"} + paddock_cost_usd_total", 0.0).await;

    // A wake that AWS does not take.
    scene.aws.inject(Some("SetDesiredCapacity"), Fault::Throttled, None);
    let stream = json!({"stream": true, "fake": {"hold_stream": "never"}});
    let mut first = RawClient::connect(scene.paddock.proxy()).await;
    first.post(CHAT, &stream).await;
    scene.until("paddock_requests_buffered", 1.0).await;
    scene.until("paddock_buffered_bytes", stream.to_string().len() as f64).await;
    scene.until("paddock_wake_wanted", 1.0).await;
    scene.until("paddock_wakes_total{result=\"failed\"} >= bool 1", 1.0).await;
    scene
        .until("paddock_aws_calls_total{action=\"SetDesiredCapacity\", result=\"throttled\"} >= bool 1", 1.0)
        .await;

    // One that it takes, and the boot.
    scene.aws.clear_faults();
    scene.until("paddock_wakes_total{result=\"succeeded\"}", 1.0).await;
    scene.until("paddock_aws_calls_total{action=\"SetDesiredCapacity\", result=\"ok\"}", 1.0).await;
    scene.until("paddock_wake_wanted", 0.0).await;
    // It may be over before it is asked for.
    scene.until("max_over_time(paddock_instances{state=\"booting\"}[1m])", 1.0).await;
    scene.until("paddock_instance_seconds_total > bool 0", 1.0).await;
    scene.until_instances("serving", 1.0).await;
    scene.until("paddock_agents", 1.0).await;
    scene.until("paddock_boot_seconds_count{phase=\"total\"}", 1.0).await;
    let phases =
        "sum(paddock_boot_seconds_sum{phase!=\"total\"}) - on() paddock_boot_seconds_sum{phase=\"total\"}";
    scene.until(&format!("abs({phases}) < bool 0.001"), 1.0).await;
    scene.until("paddock_boot_seconds_sum{phase=\"load\"} > bool 1", 1.0).await;

    // Slots, while an answer runs.
    assert_eq!(first.head().await.status, 200);
    scene.until("paddock_slots", 2.0).await;
    scene.until("paddock_slots_processing", 1.0).await;
    scene.until("paddock_slots_idle", 1.0).await;
    scene.until("paddock_requests_buffered", 0.0).await;
    scene.until("paddock_buffered_bytes", 0.0).await;
    scene.until("paddock_queue_wait_seconds_count", 1.0).await;
    scene.until("paddock_queue_wait_seconds_bucket{le=\"2.5\"}", 0.0).await;
    scene.until("paddock_queue_wait_seconds_bucket{le=\"60.0\"}", 1.0).await;
    scene.until_ended("served", 0.0).await;
    // Its client leaves.
    drop(first);
    scene.until_ended("cancelled", 1.0).await;
    scene.until("paddock_slots_processing", 0.0).await;

    // Ends of each kind.
    assert_eq!(scene.ask(json!({})).await.status, 200);
    scene.until_ended("served", 1.0).await;
    scene.until("paddock_time_to_first_byte_seconds_count", 2.0).await;
    scene.until("paddock_request_duration_seconds_count", 1.0).await;
    assert!(
        http::try_post_json(scene.paddock.proxy(), CHAT, &chat(json!({"die": "mid_stream"}))).await.is_none()
    );
    scene.until_ended("broken", 1.0).await;
    scene.until("paddock_upstream_errors_total{kind=\"broken\"}", 1.0).await;
    assert_eq!(scene.ask(json!({"die": "before_head"})).await.status, 502);
    scene.until_ended("upstream_failed", 1.0).await;
    scene.until("paddock_upstream_errors_total{kind=\"died\"}", 2.0).await;
    assert_eq!(http::get(scene.paddock.proxy(), "/health").await.status, 200);
    scene.until_ended("own", 1.0).await;
    assert_eq!(http::get(scene.paddock.proxy(), "/tools").await.status, 403);
    scene.until_ended("forbidden", 1.0).await;
    the_board_shows_it(&scene).await;

    // Back to zero.
    scene.until("paddock_slots", 0.0).await;
    scene.until("sum(paddock_instances)", 0.0).await;
    scene
        .until("paddock_aws_calls_total{action=\"TerminateInstanceInAutoScalingGroup\", result=\"ok\"}", 1.0)
        .await;
    it_has_cost_what_it_ran(&scene).await;
    assert_eq!(scene.aws.harm(), [""; 0]);
}

/// What the gateway itself says was scraped, and it stands still at zero.
async fn it_has_cost_what_it_ran(scene: &Scene) {
    let state = reqwest::Client::new().get(format!("http://{}/api/v1/state", scene.paddock.management()));
    let state: Value = state.bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    let used = &state["pools"][0]["ledger"]["since_start"];
    let (seconds, usd) = (used["instance_seconds"].as_f64().unwrap(), used["cost_usd"].as_f64().unwrap());
    assert!(seconds > 15.0 && (usd - seconds / 1000.0).abs() < 1e-9, "{used}");
    // The last digit of a number that was written and read need not be the same.
    for (counter, value) in [("instance_seconds", seconds), ("cost_usd", usd)] {
        scene.until(&format!("abs(paddock_{counter}_total - {value}) < bool 0.000001"), 1.0).await;
    }
}

/// Every expression has data, and every rule can be reckoned.
async fn the_board_shows_it(scene: &Scene) {
    let Some(board) = tool::file(BOARD, "it comes with the project") else { return };
    let board: Value = serde_json::from_str(&std::fs::read_to_string(board).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let mut seen = 0;
    for target in targets {
        let mut expression = target["expr"].as_str().unwrap().to_owned();
        for (variable, value) in VARIABLES {
            expression = expression.replace(variable, value);
        }
        seen += 1;
        let what = format!("data of {expression}");
        eventually(&what, Duration::from_secs(20), async || {
            scene.prometheus.values(&expression).await.iter().any(|value| value.is_finite()).then_some(())
        })
        .await;
    }
    assert!(seen > 20, "the board's expressions were found: {seen}");
    let rules = scene.prometheus.get("/api/v1/rules", &[]).await;
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 3 && rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
}

#[tokio::test]
async fn the_metrics_are_for_who_has_the_token() {
    let paddock = Paddock::start(&["--management-token", TOKEN]).await;
    let url = format!("http://{}/metrics", paddock.management());
    let ask = async |token: Option<&str>| {
        let request = http::client().get(&url);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap()
    };
    assert_eq!(ask(None).await.status(), 401);
    assert_eq!(ask(Some("sesam")).await.status(), 401);
    let answer = ask(Some(TOKEN)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], paddock::metrics::prometheus::CONTENT_TYPE);
    let text = answer.text().await.unwrap();
    assert!(
        text.ends_with("# EOF\n") && text.contains("\npaddock_wake_wanted{pool=\"default\"} 0\n"),
        "{text}"
    );
}
