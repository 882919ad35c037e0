//! Real clients against a server on loopback that fails in every way.

use std::net::SocketAddr;

use aws_sdk_autoscaling as autoscaling;
use aws_sdk_cloudwatch as cloudwatch;
use aws_sdk_cloudwatch::config::retry::RetryConfig;
use aws_sdk_cloudwatch::config::{Credentials, Region, SharedCredentialsProvider};
use aws_sdk_cloudwatch::types::MetricDatum;
use axum::Router;
use axum::http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const PUT: &str = "cloudwatch:PutMetricData";
const SET: &str = "autoscaling:SetDesiredCapacity";

/// Nothing of this machine's environment; one attempt.
fn isolated(addr: SocketAddr) -> ConfigLoader {
    loader()
        .empty_test_environment()
        .retry_config(RetryConfig::disabled())
        .endpoint_url(format!("http://{addr}"))
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("AKID", "secret", None, None, "test"))
}

async fn put(config: &SdkConfig) -> CallError {
    let datum = MetricDatum::builder().metric_name("slots_idle").value(1.0).build();
    let put = cloudwatch::Client::new(config).put_metric_data().namespace("Paddock").metric_data(datum);
    CallError::of(PUT, &put.send().await.unwrap_err())
}

async fn set(config: &SdkConfig) -> CallError {
    let set = autoscaling::Client::new(config).set_desired_capacity();
    let set = set.auto_scaling_group_name("workers").desired_capacity(1);
    CallError::of(SET, &set.send().await.unwrap_err())
}

/// A server with one answer.
async fn answering(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: impl Into<Vec<u8>>,
) -> SocketAddr {
    let (status, body) = (StatusCode::from_u16(status).unwrap(), body.into());
    let router = Router::new().fallback(move || {
        let (body, headers) = (body.clone(), headers.to_vec());
        async move {
            let mut answer = axum::response::Response::new(axum::body::Body::from(body));
            *answer.status_mut() = status;
            for (name, value) in headers {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            answer
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    addr
}

/// As the query protocol has it.
async fn answering_xml(status: u16, code: &str, message: &str) -> SocketAddr {
    let body = format!(
        "<ErrorResponse xmlns=\"http://autoscaling.amazonaws.com/doc/2011-01-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    );
    answering(status, &[("content-type", "text/xml")], body).await
}

/// As Smithy's RPC v2 CBOR has it: a map of two texts.
async fn answering_cbor(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    code: &str,
    message: &str,
) -> SocketAddr {
    let text = |text: &str| {
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        [&[0x79][..], &length[..], text.as_bytes()].concat()
    };
    let body = [vec![0xa2], text("__type"), text(code), text("message"), text(message)].concat();
    answering(status, headers, body).await
}

const CBOR: [(&str, &str); 2] = [("smithy-protocol", "rpc-v2-cbor"), ("content-type", "application/cbor")];

#[tokio::test]
async fn a_throttled_call_has_done_nothing_and_says_so() {
    let addr = answering_xml(400, "Throttling", "Rate exceeded").await;
    let error = set(&isolated(addr).load().await).await;
    assert_eq!(error, CallError::Throttled { code: "Throttling".into(), message: "Rate exceeded".into() });
    assert!(!error.may_be_done() && !error.needs_mending());
    assert_eq!(error.code(), Some("Throttling"));
    assert_eq!(error.to_string(), "AWS asks for fewer calls (Throttling: Rate exceeded)");

    let addr = answering_cbor(400, &CBOR, "com.amazonaws#ThrottlingException", "Rate exceeded").await;
    let error = put(&isolated(addr).load().await).await;
    assert!(matches!(error, CallError::Throttled { .. }), "{error:?}");

    let addr = answering(429, &[], "").await;
    let error = put(&isolated(addr).load().await).await;
    assert!(matches!(error, CallError::Throttled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_denied_call_names_the_action() {
    let message = "User: arn:aws:sts::1:assumed-role/r/i-1 is not authorized to perform: ec2:CreateFleet on resource: x";
    let addr = answering_xml(403, "AccessDenied", message).await;
    let error = set(&isolated(addr).load().await).await;
    assert_eq!(error, CallError::Denied { action: "ec2:CreateFleet".into(), message: message.into() });
    assert!(error.to_string().contains("ec2:CreateFleet") && error.to_string().contains("IAM"), "{error}");
    assert!(error.needs_mending() && !error.may_be_done());

    // Without the action in AWS's words, the call's own.
    let addr =
        answering_xml(403, "UnauthorizedOperation", "You are not authorized to perform this operation.")
            .await;
    let error = set(&isolated(addr).load().await).await;
    assert!(matches!(&error, CallError::Denied { action, .. } if action == SET), "{error:?}");
}

#[tokio::test]
async fn a_denied_call_is_one_in_cbor_too() {
    let message = "User: x is not authorized to perform: cloudwatch:PutMetricData";
    let addr = answering_cbor(403, &CBOR, "com.amazon.coral.service#AccessDeniedException", message).await;
    let error = put(&isolated(addr).load().await).await;
    assert_eq!(error, CallError::Denied { action: PUT.into(), message: message.into() });

    // A service that once spoke the query protocol repeats its old code in a header.
    const OLD: [(&str, &str); 3] = [CBOR[0], CBOR[1], ("x-amzn-query-error", "AccessDenied;Sender")];
    let addr = answering_cbor(403, &OLD, "com.amazon.coral.service#Whatever", message).await;
    let error = put(&isolated(addr).load().await).await;
    assert_eq!(error, CallError::Denied { action: PUT.into(), message: message.into() });
}

#[tokio::test]
async fn credentials_that_are_refused_are_told_apart_from_none() {
    for code in ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"] {
        let addr = answering_xml(403, code, "The security token included in the request is expired").await;
        let error = set(&isolated(addr).load().await).await;
        assert!(matches!(&error, CallError::BadCredentials { code: it, .. } if it == code), "{error:?}");
        assert!(error.needs_mending() && error.to_string().contains("renew them"), "{error}");
    }
}

#[tokio::test]
async fn what_aws_will_not_do_is_told_in_its_words() {
    let addr = answering_xml(400, "ScalingActivityInProgress", "an\nactivity\tis in progress").await;
    let error = set(&isolated(addr).load().await).await;
    assert_eq!(error.to_string(), "ScalingActivityInProgress: an activity is in progress");
    assert_eq!(error.code(), Some("ScalingActivityInProgress"));
    assert!(matches!(error, CallError::Rejected { .. }) && !error.may_be_done());

    let addr = answering_xml(400, "ValidationError", &"long ".repeat(1000)).await;
    let error = set(&isolated(addr).load().await).await;
    assert!(error.to_string().chars().count() < 2 * WORDS_MAX, "{error}");
}

#[tokio::test]
async fn a_failure_of_aws_may_have_done_it() {
    let addr = answering_xml(500, "InternalFailure", "oh").await;
    let error = set(&isolated(addr).load().await).await;
    let expected = CallError::Server { status: 500, code: "InternalFailure".into(), message: "oh".into() };
    assert_eq!(error, expected);
    assert!(error.may_be_done() && !error.needs_mending());

    let addr = answering(503, &[("content-type", "text/html")], "<html>busy</html>").await;
    for error in [set(&isolated(addr).load().await).await, put(&isolated(addr).load().await).await] {
        assert!(error.may_be_done(), "{error:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_refused_has_sent_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    for error in [set(&isolated(addr).load().await).await, put(&isolated(addr).load().await).await] {
        assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
        assert!(!error.may_be_done() && error.to_string().contains("AWS_ENDPOINT_URL"), "{error}");
    }
    let named = isolated(addr).endpoint_url("http://no-such-host.invalid").load().await;
    let error = set(&named).await;
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
}

/// A server that reads a request and then does `then` with its connection.
async fn reading<F>(then: impl Fn(tokio::net::TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64 * 1024];
            let _ = stream.read(&mut request).await;
            then(stream).await;
        }
    });
    addr
}

#[tokio::test]
async fn an_answer_that_is_lost_may_have_been_a_success() {
    let closing = reading(|stream| async move { drop(stream) }).await;
    let cutting = reading(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n<Half").await;
    })
    .await;
    for addr in [closing, cutting] {
        let error = put(&isolated(addr).load().await).await;
        assert!(matches!(error, CallError::Unknown { .. }) && error.may_be_done(), "{error:?}");
        assert!(error.to_string().starts_with("the answer of AWS was lost"), "{error}");
    }
    let error = set(&isolated(closing).load().await).await;
    assert!(matches!(error, CallError::Unknown { .. }), "{error:?}");

    let babbling = answering(200, &[("content-type", "text/html")], "hello").await;
    let config = isolated(babbling).load().await;
    let groups = autoscaling::Client::new(&config).describe_auto_scaling_groups().send().await;
    let error = CallError::of("autoscaling:DescribeAutoScalingGroups", &groups.unwrap_err());
    assert!(matches!(error, CallError::Unknown { .. }), "{error:?}");
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for_for_ever() {
    let addr = reading(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let short = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(100)).build();
    let error = set(&isolated(addr).timeout_config(short).load().await).await;
    assert!(matches!(error, CallError::Unknown { .. }) && error.may_be_done(), "{error:?}");
    let config = isolated(addr).load().await;
    let timeouts = config.timeout_config().unwrap();
    assert_eq!(timeouts.operation_attempt_timeout(), Some(ATTEMPT_TIMEOUT));
    assert_eq!(timeouts.operation_timeout(), Some(OPERATION_TIMEOUT));
    assert_eq!(config.app_name().unwrap().as_ref(), APP_NAME);
}

#[tokio::test]
async fn missing_credentials_name_the_variables() {
    let addr = answering(200, &[], "").await;
    let none = || CredentialsError::not_loaded("no providers in chain provided credentials");
    let failed = || CredentialsError::provider_error("no such profile");
    for error in [none as fn() -> CredentialsError, failed] {
        let config = isolated(addr).credentials_provider(Without(error)).load().await;
        for error in [set(&config).await, put(&config).await] {
            assert!(matches!(error, CallError::NoCredentials { .. }), "{error:?}");
            assert!(error.needs_mending() && !error.may_be_done());
            let error = error.to_string();
            assert!(error.contains("AWS_ACCESS_KEY_ID") && error.contains("instance profile"), "{error}");
        }
    }
    let config = isolated(addr).no_credentials().load().await;
    let error = set(&config).await;
    assert!(matches!(error, CallError::NoCredentials { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_region_names_the_variable() {
    let addr = answering(200, &[], "").await;
    let with_endpoint = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "AKID", "secret", None, None, "test",
        )))
        .endpoint_url(format!("http://{addr}"))
        .build();
    let mut without = with_endpoint.clone().into_builder();
    without.set_endpoint_url(None);
    for config in [with_endpoint, without.build()] {
        for error in [set(&config).await, put(&config).await] {
            assert_eq!(error, CallError::NoRegion);
            assert!(error.to_string().contains("AWS_REGION"), "{error}");
        }
    }
}

/// A source of credentials that has none.
#[derive(Debug)]
struct Without(fn() -> CredentialsError);

impl aws_credential_types::provider::ProvideCredentials for Without {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        aws_credential_types::provider::future::ProvideCredentials::ready(Err((self.0)()))
    }
}
