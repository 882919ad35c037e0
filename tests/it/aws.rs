//! The program on AWS: a fake one whose instances run. Each test ends with what no gateway may ever do: a busy machine that
//! was ended by a call, a wish that was lowered by number.

mod failures;
mod notices;
mod restart;
mod wakes;
mod warm_pool;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::fake_aws::{
    AgentConfig, FakeAws, FakeAwsConfig, GroupConfig, GroupHandle, Lifecycle, LlamaConfig, MachineConfig,
    Outcome,
};
use crate::support::fake_llama::FakeConfig;
use crate::support::http::{Answer, RawClient, post_json};
use crate::support::program::Paddock;
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
/// For what takes a few looks at the groups, which come every 5 s.
const SOON: Duration = Duration::from_secs(30);
/// Longer than any test takes.
const NEVER: &str = "1h";

/// AWS with one group or several, and a gateway before it.
struct Scene {
    aws: FakeAws,
    paddock: Paddock,
    flags: Vec<String>,
}

impl Scene {
    /// One group of the name `gpu`; its instances have `slots` slots.
    async fn of(slots: usize, flags: &[&str], group: GroupConfig) -> Self {
        Self::of_groups(slots, flags, vec![group]).await
    }

    /// Several groups, in this order.
    async fn of_groups(slots: usize, flags: &[&str], groups: Vec<GroupConfig>) -> Self {
        let management = free_addr();
        let names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
        let with_agents = groups.into_iter().map(|group| {
            let llama = LlamaConfig::Fake(FakeConfig { slots, ..FakeConfig::default() });
            let agent = AgentConfig::reporting_to(management);
            let machine = MachineConfig { llama, agent, ..group.machine };
            GroupConfig { machine, ..group }
        });
        let config = FakeAwsConfig { groups: with_agents.collect(), ..FakeAwsConfig::default() };
        let aws = FakeAws::start(config).await;
        let mut all: Vec<String> =
            names.iter().flat_map(|name| ["--asg-name".to_owned(), name.clone()]).collect();
        all.extend(["--min-instance-life", "0s"].map(str::to_owned));
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        let paddock = start(&aws, free_addr(), management, &all).await;
        Self { aws, paddock, flags: all }
    }

    /// Ends the balancer without asking, and starts it again where it was.
    async fn restart(&mut self) {
        let (proxy, management) = (self.paddock.proxy(), self.paddock.management());
        self.paddock.sigkill();
        self.paddock.wait().await;
        self.paddock = start(&self.aws, proxy, management, &self.flags).await;
    }

    fn group(&self) -> GroupHandle {
        self.aws.group("gpu")
    }

    async fn ask(&self) -> Answer {
        post_json(self.paddock.proxy(), CHAT, &chat(json!({}))).await
    }

    /// A request whose answer is waited for elsewhere.
    fn begin(&self, fake: Value) -> JoinHandle<Answer> {
        let proxy = self.paddock.proxy();
        tokio::spawn(async move { post_json(proxy, CHAT, &chat(fake)).await })
    }

    /// A stream that has begun, and stays open until the server's `release(name)`.
    async fn stream(&self, name: &str) -> RawClient {
        let mut client = RawClient::connect(self.paddock.proxy()).await;
        client.post(CHAT, &json!({"stream": true, "fake": {"hold_stream": name}})).await;
        assert_eq!(client.head().await.status, 200);
        assert!(client.chunk().await.unwrap().is_some(), "its first word");
        client
    }

    async fn pool(&self) -> Value {
        self.paddock.state().await["pools"][0].clone()
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn(&Value) -> bool) {
        eventually(what, SOON, async || is_so(&self.pool().await).await.then_some(())).await;
    }

    async fn until_waiting(&self, requests: u64) {
        let what = format!("{requests} requests wait");
        self.until(&what, async |pool| pool["requests_buffered"] == json!(requests)).await;
    }

    async fn until_slots(&self, slots: u64) {
        self.until(&format!("{slots} slots are there"), async |pool| pool["slots_total"] == json!(slots))
            .await;
    }

    /// Nothing is desired of any group, nothing runs, and the gateway knows it.
    async fn until_at_zero(&self, group: &GroupHandle) {
        eventually("the group is at zero", SOON, async || {
            let is_empty = group.desired() == 0 && group.instances().is_empty();
            (is_empty && self.pool().await["instances"] == json!([])).then_some(())
        })
        .await;
    }

    fn assert_no_harm(&self) {
        assert_eq!(self.aws.harm(), [""; 0], "{}", self.paddock.output());
    }
}

async fn start(aws: &FakeAws, proxy: SocketAddr, management: SocketAddr, flags: &[String]) -> Paddock {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    Paddock::start_on_in(&aws.environment(), proxy, management, &flags).await
}

fn chat(fake: Value) -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}], "fake": fake})
}

/// The message of a refusal for want of capacity, which says when to come again.
fn refused(answer: &Answer) -> (String, u64) {
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (503, Some("no_capacity")));
    let after = answer.header("retry-after").unwrap().parse().unwrap();
    (answer.json()["error"]["message"].as_str().unwrap().to_owned(), after)
}

/// Waits for the answer of a request that was begun.
async fn answer(request: JoinHandle<Answer>) -> Answer {
    tokio::time::timeout(SOON, request).await.expect("no answer").unwrap()
}
