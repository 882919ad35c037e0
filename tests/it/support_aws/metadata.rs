//! The instance metadata of a machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use aws_config::imds::Client;
use paddock::clock::Clock;
use serde_json::{Value, json};

use crate::support::fake_aws::{Imds, Metadata};
use crate::support::http;

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";

/// Of a machine that is well, and that nobody ends.
pub fn start(ip: IpAddr) -> Imds {
    let clock = Clock::start();
    let metadata = Metadata {
        instance_id: "i-1".to_owned(),
        region: "us-east-1".to_owned(),
        zone: "us-east-1a".to_owned(),
        local_ipv4: Ipv4Addr::new(127, 0, 3, 4),
        ipv6: None,
        instance_type: "g6.xlarge".to_owned(),
        launched: clock.now(),
        target_lifecycle_state: None,
        spot_action: None,
        rebalance: None,
        tags: None,
    };
    Imds::start(ip, metadata, clock)
}

/// What `PUT /latest/api/token` answers to this lifetime.
async fn token(imds: &Imds, ttl: Option<&str>) -> (u16, String) {
    let mut request = http::client().put(format!("{}/latest/api/token", imds.endpoint()));
    if let Some(ttl) = ttl {
        request = request.header(TTL, ttl);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn status(imds: &Imds, token: Option<&str>) -> u16 {
    let mut request = http::client().get(format!("{}/latest/meta-data/instance-id", imds.endpoint()));
    if let Some(token) = token {
        request = request.header(TOKEN, token);
    }
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn nothing_is_told_without_a_token() {
    let imds = start(Ipv4Addr::LOCALHOST.into());
    for ttl in [None, Some("0"), Some("21601"), Some("an hour")] {
        assert_eq!(token(&imds, ttl).await.0, 400, "{ttl:?}");
    }
    assert_eq!(status(&imds, None).await, 401);
    assert_eq!(status(&imds, Some("made up")).await, 401);
    let (answer, good) = token(&imds, Some("21600")).await;
    assert_eq!((answer, status(&imds, Some(&good)).await), (200, 200));
    imds.expire_tokens();
    assert_eq!(status(&imds, Some(&good)).await, 401);
    let proxied = http::client().put(format!("{}/latest/api/token", imds.endpoint())).header(TTL, "60");
    assert_eq!(proxied.header("x-forwarded-for", "10.0.0.1").send().await.unwrap().status(), 403);
    assert_eq!(imds.asked().last().unwrap(), &("/latest/api/token".to_owned(), 403));
}

#[tokio::test]
async fn a_token_lasts_as_long_as_was_asked_for() {
    let imds = start(Ipv4Addr::LOCALHOST.into());
    let (_, brief) = token(&imds, Some("1")).await;
    assert_eq!(status(&imds, Some(&brief)).await, 200);
    crate::support::wait::eventually("the token expires", Duration::from_secs(10), async || {
        (status(&imds, Some(&brief)).await == 401).then_some(())
    })
    .await;
}

async fn get(client: &Client, item: &str) -> Option<String> {
    client.get(format!("/latest/meta-data/{item}")).await.ok().map(String::from)
}

#[tokio::test]
async fn the_sdk_reads_what_is_there_and_404_what_is_not() {
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let imds = start(ip);
        let client = Client::builder().endpoint(imds.endpoint()).unwrap().build();
        assert_eq!(get(&client, "instance-id").await.as_deref(), Some("i-1"));
        assert_eq!(get(&client, "local-ipv4").await.as_deref(), Some("127.0.3.4"));
        assert_eq!(get(&client, "placement/region").await.as_deref(), Some("us-east-1"));
        assert_eq!(get(&client, "placement/availability-zone").await.as_deref(), Some("us-east-1a"));
        let document = client.get("/latest/dynamic/instance-identity/document").await.unwrap();
        let document: Value = serde_json::from_str(document.as_ref()).unwrap();
        assert_eq!((&document["instanceId"], &document["privateIp"]), (&json!("i-1"), &json!("127.0.3.4")));
        assert!(document["pendingTime"].as_str().unwrap().ends_with('Z'), "{document}");
        for absent in [
            "ipv6",
            "spot/instance-action",
            "events/recommendations/rebalance",
            "autoscaling/target-lifecycle-state",
            "tags/instance/",
            "nowhere",
        ] {
            assert_eq!(get(&client, absent).await, None, "{absent}");
        }
        assert_eq!(imds.asked().last().unwrap().1, 404);
    }
}

#[tokio::test]
async fn notices_and_tags_appear_when_they_are_out() {
    let imds = start(Ipv4Addr::LOCALHOST.into());
    let client = Client::builder().endpoint(imds.endpoint()).unwrap().build();
    imds.change(|metadata| {
        let mut at = metadata.launched;
        at.wall = Duration::from_secs(1_700_000_000);
        metadata.spot_action = Some(("terminate".to_owned(), at));
        metadata.rebalance = Some(at);
        metadata.ipv6 = Some(Ipv6Addr::LOCALHOST);
        metadata.target_lifecycle_state = Some("Terminated".to_owned());
        metadata.tags = Some(BTreeMap::from([
            ("aws:autoscaling:groupName".to_owned(), "gpu".to_owned()),
            ("team".to_owned(), "ml".to_owned()),
        ]));
    });
    let action = get(&client, "spot/instance-action").await.unwrap();
    let action: Value = serde_json::from_str(&action).unwrap();
    assert_eq!(action, json!({ "action": "terminate", "time": "2023-11-14T22:13:20Z" }));
    let rebalance = get(&client, "events/recommendations/rebalance").await.unwrap();
    assert_eq!(rebalance, r#"{"noticeTime":"2023-11-14T22:13:20Z"}"#);
    assert_eq!(get(&client, "autoscaling/target-lifecycle-state").await.as_deref(), Some("Terminated"));
    assert_eq!(get(&client, "ipv6").await.as_deref(), Some("::1"));
    assert_eq!(get(&client, "tags/instance/").await.as_deref(), Some("aws:autoscaling:groupName\nteam"));
    assert_eq!(get(&client, "tags/instance/aws:autoscaling:groupName").await.as_deref(), Some("gpu"));
    assert_eq!(get(&client, "tags/instance/other").await, None);
}
