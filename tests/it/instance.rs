//! The program on an EC2 instance: where it finds its addresses, and how it ends itself when nobody is left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::fake_llama::{FakeConfig, FakeLlama};
use crate::support::http::get;
use crate::support::program::{IMDS_ENDPOINT, Paddock};
use crate::support::wait::{eventually, free_addr};

const SOON: Duration = Duration::from_secs(30);

/// The metadata service of one instance, and its Auto Scaling group, at one address.
#[derive(Clone)]
struct Aws {
    addr: SocketAddr,
    entries: Arc<BTreeMap<&'static str, &'static str>>,
    state: Arc<Mutex<&'static str>>,
    looks: Arc<AtomicUsize>,
    called: Arc<Mutex<Vec<String>>>,
}

impl Aws {
    fn new(entries: &[(&'static str, &'static str)]) -> Self {
        Self {
            addr: free_addr(),
            entries: Arc::new(entries.iter().copied().collect()),
            state: Arc::new(Mutex::new("InService")),
            looks: Arc::default(),
            called: Arc::default(),
        }
    }

    /// How often an agent has looked for its group's notice: every five seconds.
    fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }

    async fn serve(&self) {
        let listener = TcpListener::bind(self.addr).await.unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn has_called(&self, action: &str) -> bool {
        self.called.lock().unwrap().iter().any(|called| called == action)
    }
}

async fn answer(State(aws): State<Aws>, method: Method, uri: Uri, body: Bytes) -> Response {
    if method == Method::POST {
        return called(&aws, std::str::from_utf8(&body).unwrap());
    }
    if method == Method::PUT {
        return ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "token").into_response();
    }
    let name = uri.path().trim_start_matches("/latest/");
    if name == "meta-data/autoscaling/target-lifecycle-state" {
        aws.looks.fetch_add(1, Ordering::SeqCst);
    }
    match aws.entries.get(name) {
        Some(value) => value.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn called(aws: &Aws, form: &str) -> Response {
    let action = form.split('&').find_map(|field| field.strip_prefix("Action=")).unwrap();
    let mut state = aws.state.lock().unwrap();
    let result = match action {
        "DescribeAutoScalingInstances" => format!(
            "<AutoScalingInstances><member><InstanceId>i-1</InstanceId><LifecycleState>{state}</LifecycleState>\
             <AutoScalingGroupName>gpus</AutoScalingGroupName></member></AutoScalingInstances>"
        ),
        "TerminateInstanceInAutoScalingGroup" => {
            assert!(form.contains("InstanceId=i-1&ShouldDecrementDesiredCapacity=true"), "{form}");
            *state = "Terminating:Wait";
            String::new()
        }
        "DescribeLifecycleHooks" => {
            "<LifecycleHooks><member><LifecycleHookName>drain</LifecycleHookName><LifecycleTransition>\
             autoscaling:EC2_INSTANCE_TERMINATING</LifecycleTransition></member></LifecycleHooks>"
                .to_owned()
        }
        "CompleteLifecycleAction" => {
            assert!(form.contains("LifecycleHookName=drain") && form.contains("CONTINUE"), "{form}");
            *state = "Terminating:Proceed";
            String::new()
        }
        other => panic!("{other}"),
    };
    aws.called.lock().unwrap().push(action.to_owned());
    format!(
        "<{action}Response xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><{action}Result>{result}\
         </{action}Result></{action}Response>"
    )
    .into_response()
}

async fn agents(management: SocketAddr) -> Vec<Value> {
    get(management, "/api/v1/agents").await.json()["agents"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_agent_waits_for_its_address_and_is_known_by_it() {
    let aws = Aws::new(&[("meta-data/local-ipv4", "127.0.0.1"), ("meta-data/instance-id", "i-1")]);
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let balancer = Paddock::start(&[]).await;
    let external = format!("aws:metadata:local-ipv4:{}", fake.addr().port());
    let (local, management) = (fake.addr().to_string(), balancer.management().to_string());
    let line = ["agent", "--local-llamacpp-addr", &local, "--external-llamacpp-addr", &external];
    let line = [line.as_slice(), &["--management-addr", &management]].concat();
    let agent = Paddock::spawn_in(&line, &[(IMDS_ENDPOINT, &aws.endpoint())]);
    // The network of a fresh instance may be late.
    eventually("a word about it", SOON, async || agent.output().contains("asking on").then_some(())).await;
    aws.serve().await;
    let known = eventually("the agent", SOON, async || agents(balancer.management()).await.pop()).await;
    assert_eq!(known["external_llamacpp_addr"], local);
    assert_eq!(agent.output().matches("is not known yet").count(), 1, "{}", agent.output());
}

#[tokio::test]
async fn an_address_that_the_machine_does_not_have_ends_the_agent_with_one_line() {
    let aws = Aws::new(&[]);
    aws.serve().await;
    let line = ["agent", "--local-llamacpp-addr", "127.0.0.1:9", "--management-addr", "aws:metadata:ipv6:9"];
    let mut agent = Paddock::spawn_in(&line, &[(IMDS_ENDPOINT, &aws.endpoint())]);
    assert_eq!(agent.wait().await.code(), Some(1));
    let says = "error: --management-addr: 'aws:metadata:ipv6:9': this machine has no ipv6 in its EC2 metadata; assign";
    eventually(says, SOON, async || agent.output().contains(says).then_some(())).await;
}

#[tokio::test]
async fn a_balancer_listens_where_the_metadata_says() {
    let aws = Aws::new(&[("meta-data/local-ipv4", "127.0.0.1")]);
    aws.serve().await;
    let management = free_addr();
    let addr = format!("aws:metadata:local-ipv4:{}", management.port());
    let line = ["balancer", "--reverseproxy-addr", "aws:metadata:local-ipv4:0", "--management-addr", &addr];
    let line = [line.as_slice(), &["--statsd-addr", "aws:metadata:local-ipv4:9"]].concat();
    let mut balancer = Paddock::spawn_in(&line, &[(IMDS_ENDPOINT, &aws.endpoint())]);
    balancer.until_answers(management, "/health").await;
}

#[tokio::test]
async fn an_agent_without_a_balancer_ends_its_instance() {
    let aws = Aws::new(&[("meta-data/instance-id", "i-1")]);
    aws.serve().await;
    let fake = FakeLlama::start(FakeConfig::default()).await;
    let mut balancer = Paddock::start(&[]).await;
    let (local, management) = (fake.addr().to_string(), balancer.management().to_string());
    let line = ["agent", "--local-llamacpp-addr", &local, "--management-addr", &management];
    let line = [line.as_slice(), &["--monitoring-interval", "200ms", "--orphan-timeout", "2s"]].concat();
    let endpoint = aws.endpoint();
    let environment = [
        (IMDS_ENDPOINT, endpoint.as_str()),
        ("AWS_ENDPOINT_URL_AUTO_SCALING", &endpoint),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
    ];
    let agent = Paddock::spawn_in(&line, &environment);
    let registered = || agent.output().matches("registered with the balancer").count();
    eventually("it is registered", SOON, async || (registered() == 1).then_some(())).await;

    // While a slot computes it is no orphan, however long the balancer is gone.
    fake.set_foreign(1);
    balancer.sigkill();
    balancer.wait().await;
    let lost = async || agent.output().contains("lost the balancer").then_some(());
    eventually("it is lost", SOON, lost).await;
    let looks = aws.looks();
    eventually("5 s and more are over", SOON, async || (aws.looks() > looks + 1).then_some(())).await;
    assert_eq!(*aws.called.lock().unwrap(), [""; 0], "{}", agent.output());
    fake.set_foreign(0);
    for action in ["TerminateInstanceInAutoScalingGroup", "CompleteLifecycleAction"] {
        eventually(action, SOON, async || aws.has_called(action).then_some(())).await;
    }
    let output = agent.output();
    assert_eq!(output.matches("no balancer and no work: ending this instance").count(), 1, "{output}");

    // A balancer that comes back now is told that nothing may be sent there any more.
    let listener = TcpListener::bind(balancer.management()).await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut report = String::new();
    while !report.contains("}\n") {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "{report}");
        report.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(report.contains(r#""drain_reason":"lifecycle_termination""#), "{report}");
}
