//! AWS's own SDK on our side, moto on the other, boto3 as the witness.

use std::time::Duration;

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::config::{BehaviorVersion, Credentials, Region};
use serde_json::json;

use crate::support::http;
use crate::support::moto::{Group, Moto, REGION};
use crate::support::program::Paddock;
use crate::support::real_llama::{RealLlama, RealOptions};
use crate::support::wait::eventually;

/// Far above what a step takes on a busy machine; the longest waits for a put, each ten seconds.
const SOON: Duration = Duration::from_secs(40);

fn autoscaling(moto: &Moto) -> Client {
    let config = aws_sdk_autoscaling::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("AKIDEXAMPLE", "secret", None, None, "test"))
        .endpoint_url(moto.endpoint());
    Client::from_conf(config.build())
}

fn ids(group: &Group) -> Vec<&str> {
    group.instances.iter().map(|instance| instance.id.as_str()).collect()
}

async fn set_desired(client: &Client, group: &str, desired: i32) {
    let set = client.set_desired_capacity().auto_scaling_group_name(group);
    set.desired_capacity(desired).honor_cooldown(false).send().await.unwrap();
}

async fn terminate(client: &Client, instance: &str) {
    let terminate = client.terminate_instance_in_auto_scaling_group().instance_id(instance);
    terminate.should_decrement_desired_capacity(true).send().await.unwrap();
}

#[tokio::test]
async fn metrics_are_read_back_through_boto3() {
    const NAMESPACE: &str = "Team/Paddock";
    let moto = Moto::start().await;
    let paddock = Paddock::start_in(&moto.environment(), &["--cloudwatch-namespace", NAMESPACE]).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let ask = http::client().post(format!("http://{}/completion", paddock.proxy()));
            tokio::spawn(ask.json(&json!({ "prompt": "hello", "n_predict": 1 })).send())
        })
        .collect();
    let metrics = eventually("three that wait are read back", SOON, async || {
        let metrics = moto.metrics(NAMESPACE).await;
        let waited = &metrics.get("requests_buffered")?.values;
        waited.contains(&3.0).then_some(metrics)
    })
    .await;
    let names: Vec<&str> = metrics.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["agents", "requests_buffered", "slots_idle", "slots_processing", "slots_total", "wake_wanted"]
    );
    assert!(metrics["wake_wanted"].values.contains(&1.0), "no fleet is known: {metrics:?}");
    for metric in metrics.values() {
        assert_eq!(metric.dimensions, [("pool".to_owned(), "default".to_owned())].into(), "{metric:?}");
        assert!(!metric.values.is_empty() && metric.values.len() <= 4, "{metric:?}");
    }
    for request in waiting {
        request.abort();
    }
    let state = paddock.state().await;
    let told = &state["cloudwatch"];
    assert!(told["puts"].as_u64() >= Some(1) && told["failures"] == 0, "{told}\n{}", moto.output());
}

#[tokio::test]
async fn a_group_made_with_boto3_is_raised_and_emptied_by_the_sdk() {
    let moto = Moto::start().await;
    let created = moto.create_group("workers", 0, 2).await;
    assert_eq!(created, Group { desired: 0, min: 0, max: 2, instances: vec![] });
    let client = autoscaling(&moto);
    set_desired(&client, "workers", 2).await;
    let raised = moto.group("workers").await;
    assert_eq!((raised.desired, raised.instances.len()), (2, 2));
    assert!(raised.instances.iter().all(|it| it.state == "InService" && it.is_protected), "{raised:?}");

    // The SDK reads what boto3 reads.
    let described = client.describe_auto_scaling_groups().auto_scaling_group_names("workers").send().await;
    let described = described.unwrap().auto_scaling_groups.unwrap_or_default();
    let [group] = described.as_slice() else { panic!("one group: {described:?}") };
    assert_eq!((group.desired_capacity(), group.min_size(), group.max_size()), (Some(2), Some(0), Some(2)));
    let mut seen: Vec<_> = group.instances().iter().filter_map(|instance| instance.instance_id()).collect();
    let mut made = ids(&raised);
    seen.sort_unstable();
    made.sort_unstable();
    assert_eq!(seen, made);

    terminate(&client, made[0]).await;
    let lowered = moto.group("workers").await;
    assert_eq!((lowered.desired, ids(&lowered)), (1, vec![made[1]]), "the named one, and not another");
    terminate(&client, made[1]).await;
    assert_eq!(moto.group("workers").await, created);
}

#[tokio::test]
async fn an_instance_of_a_group_serves_with_a_real_llama_and_is_ended() {
    const NAMESPACE: &str = "Team/Paddock";
    let moto = Moto::start().await;
    let created = moto.create_group("workers", 0, 1).await;
    let flags = [
        ["--asg-name", "workers"],
        ["--min-instance-life", "0s"],
        ["--idle-timeout", "2s"],
        ["--cloudwatch-namespace", NAMESPACE],
    ];
    let paddock = Paddock::start_in(&moto.environment(), &flags.concat()).await;
    let proxy = paddock.proxy();
    let ask = tokio::spawn(async move {
        let chat = json!({ "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 8 });
        http::post_json(proxy, "/v1/chat/completions", &chat).await
    });
    let woken = eventually("boto3 sees an instance", SOON, async || {
        let group = moto.group("workers").await;
        (!group.instances.is_empty()).then_some(group)
    })
    .await;
    let [instance] = woken.instances.as_slice() else { panic!("one instance: {woken:?}") };
    assert_eq!((woken.desired, instance.is_protected), (1, true), "{woken:?}");
    assert!(!ask.is_finished(), "nobody can have answered yet");

    // What the machine's cloud-init would start.
    let llama = RealLlama::start(RealOptions::default()).await;
    let mut agent = Paddock::agent(llama.addr(), paddock.management(), &["--instance-id", &instance.id]);
    let answer = ask.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("x-paddock-cold-start"), Some("true"));
    assert_eq!(answer.json()["usage"]["completion_tokens"], 8);

    let ended = eventually("boto3 sees the group at zero", SOON, async || {
        let group = moto.group("workers").await;
        (group.desired == 0).then_some(group)
    })
    .await;
    assert_eq!(ended, created, "{}", paddock.output());
    let pool = eventually("the balancer sees it too", SOON, async || {
        let state = paddock.state().await;
        (state["pools"][0]["instances"] == json!([])).then(|| state["pools"][0].clone())
    })
    .await;
    assert_eq!(pool["boots"].as_array().map(Vec::len), Some(1), "one start, and none that failed: {pool}");
    agent.sigterm();
    assert_eq!(agent.wait().await.code(), Some(0));
    let metrics = moto.metrics(NAMESPACE).await;
    assert!(metrics["requests_buffered"].values.contains(&1.0), "{metrics:?}");
}
