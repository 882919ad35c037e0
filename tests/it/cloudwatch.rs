//! A CloudWatch that cannot be had harms nothing, and says what is to be mended.

use std::time::Duration;

use serde_json::Value;

use crate::support::http;
use crate::support::program::Paddock;
use crate::support::wait::{eventually, free_addr};

/// Three attempts with their pauses, on a busy machine.
const SOON: Duration = Duration::from_secs(40);

/// Nothing of this machine's own AWS configuration, and no instance metadata.
fn environment(settings: &[(&str, &str)]) -> Vec<(String, String)> {
    let none = [
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    none.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The state after the first failure, and what was logged by then.
async fn failed(settings: &[(&str, &str)]) -> (Value, String) {
    let paddock = Paddock::start_in(&environment(settings), &["--cloudwatch-namespace", "Paddock"]).await;
    let state = eventually("a put fails", SOON, async || {
        let state = paddock.state().await;
        (state["cloudwatch"]["failures"].as_u64() >= Some(1)).then_some(state)
    })
    .await;
    assert_eq!(http::get(paddock.proxy(), "/health").await.status, 200, "clients are served all the same");
    assert_eq!(state["cloudwatch"]["puts"], 0);
    (state, paddock.until_says("CloudWatch gets no metrics").await)
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];

#[tokio::test]
async fn a_cloudwatch_that_is_not_there_is_one_line_and_a_count() {
    let nobody = format!("http://{}", free_addr());
    // The service's own endpoint wins over the common one.
    let endpoints =
        [("AWS_ENDPOINT_URL_CLOUDWATCH", nobody.as_str()), ("AWS_ENDPOINT_URL", "http://127.0.0.1:1")];
    let (state, log) = failed(&[&KEYS[..], &[("AWS_REGION", "eu-central-1")], &endpoints].concat()).await;
    let error = state["cloudwatch"]["last_error"].as_str().unwrap();
    assert!(error.starts_with("AWS cannot be reached") && error.contains("AWS_ENDPOINT_URL"), "{error}");
    assert_eq!(log.matches("CloudWatch gets no metrics").count(), 1, "{log}");
    assert!(log.contains("AWS cannot be reached"), "{log}");
}

#[tokio::test]
async fn a_missing_region_and_missing_credentials_name_their_variables() {
    let nobody = format!("http://{}", free_addr());
    let endpoint = ("AWS_ENDPOINT_URL", nobody.as_str());
    for (settings, mend) in [
        ([&KEYS[..], &[endpoint]].concat(), "AWS_REGION"),
        (vec![endpoint, ("AWS_REGION", "eu-central-1")], "AWS_ACCESS_KEY_ID"),
    ] {
        let (state, log) = failed(&settings).await;
        let error = state["cloudwatch"]["last_error"].as_str().unwrap();
        assert!(error.contains(mend), "{error}");
        assert!(
            log.lines().any(|line| line.contains("CloudWatch gets no metrics") && line.contains(mend)),
            "{log}"
        );
    }
}

#[tokio::test]
async fn without_its_flag_nothing_is_said_of_it() {
    let paddock = Paddock::start(&[]).await;
    assert_eq!(paddock.state().await.get("cloudwatch"), None);
}
