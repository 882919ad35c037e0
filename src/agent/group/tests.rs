use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_sdk_autoscaling::config::{Credentials, Region, SharedCredentialsProvider};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

const XMLNS: &str = "http://autoscaling.amazonaws.com/doc/2011-01-01/";

/// Auto Scaling with one instance in one group, in the query protocol's form.
#[derive(Clone)]
struct FakeGroup {
    endpoint: String,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    /// None: the instance belongs to no group.
    state: Option<&'static str>,
    /// The launching hook that holds it, if one does.
    launching: Option<&'static str>,
    /// For the next call of this action: status, code and message.
    failures: BTreeMap<&'static str, (u16, &'static str, &'static str)>,
    called: Vec<String>,
}

impl FakeGroup {
    async fn start(state: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let fake = Self { endpoint, book: Arc::default() };
        fake.book().state = state;
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        fake
    }

    fn group(&self) -> Group {
        group(&self.endpoint)
    }

    fn fail(&self, action: &'static str, status: u16, code: &'static str, message: &'static str) {
        self.book().failures.insert(action, (status, code, message));
    }

    fn called(&self) -> Vec<String> {
        std::mem::take(&mut self.book().called)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }
}

fn group(endpoint: &str) -> Group {
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new("eu-central-1"))
        .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
        .build();
    Group::new(&sdk)
}

async fn answer(State(fake): State<FakeGroup>, body: String) -> (StatusCode, String) {
    let fields: BTreeMap<&str, &str> = body.split('&').filter_map(|field| field.split_once('=')).collect();
    let mut book = fake.book();
    let action = fields["Action"];
    book.called.push(action.to_owned());
    if let Some(failure) = book.failures.remove(action) {
        return refusal(failure);
    }
    let result = match action {
        "DescribeAutoScalingInstances" => {
            assert_eq!(fields["InstanceIds.member.1"], "i-1");
            let instance = book.state.map(|state| {
                format!(
                    "<member><InstanceId>i-1</InstanceId><LifecycleState>{state}</LifecycleState>\
                     <AutoScalingGroupName>gpus</AutoScalingGroupName></member>"
                )
            });
            format!("<AutoScalingInstances>{}</AutoScalingInstances>", instance.unwrap_or_default())
        }
        "TerminateInstanceInAutoScalingGroup" => {
            assert_eq!((fields["InstanceId"], fields["ShouldDecrementDesiredCapacity"]), ("i-1", "true"));
            book.state = Some("Terminating");
            String::new()
        }
        "DescribeLifecycleHooks" => {
            assert_eq!(fields["AutoScalingGroupName"], "gpus");
            let hook = |name: &str, transition: &str| {
                format!(
                    "<member><LifecycleHookName>{name}</LifecycleHookName>\
                     <LifecycleTransition>autoscaling:{transition}</LifecycleTransition></member>"
                )
            };
            let hooks = [("boot", "EC2_INSTANCE_LAUNCHING"), ("drain", "EC2_INSTANCE_TERMINATING")];
            let hooks = hooks.map(|(name, transition)| hook(name, transition)).concat();
            format!("<LifecycleHooks>{hooks}</LifecycleHooks>")
        }
        "CompleteLifecycleAction" => {
            let said = ["AutoScalingGroupName", "InstanceId", "LifecycleActionResult"];
            assert_eq!(said.map(|name| fields[name]), ["gpus", "i-1", "CONTINUE"]);
            match (fields["LifecycleHookName"], book.launching) {
                ("drain", _) => book.state = Some("Terminating:Proceed"),
                (hook, Some(holds)) if hook == holds => book.launching = None,
                _ => {
                    let message = "No active Lifecycle Action found with instance ID i-1";
                    return refusal((400, "ValidationError", message));
                }
            }
            String::new()
        }
        other => panic!("{other}"),
    };
    let answer = format!(
        "<{action}Response xmlns=\"{XMLNS}\"><{action}Result>{result}</{action}Result></{action}Response>"
    );
    (StatusCode::OK, answer)
}

fn refusal((status, code, message): (u16, &str, &str)) -> (StatusCode, String) {
    let error = format!("<Type>Sender</Type><Code>{code}</Code><Message>{message}</Message>");
    let error = format!("<ErrorResponse xmlns=\"{XMLNS}\"><Error>{error}</Error></ErrorResponse>");
    (StatusCode::from_u16(status).unwrap(), error)
}

const DESCRIBE: &str = "DescribeAutoScalingInstances";
const COMPLETE: &str = "CompleteLifecycleAction";

#[tokio::test]
async fn a_launching_hook_is_completed_once_it_holds_the_instance() {
    for named in [None, Some("gpus")] {
        let first: &[&str] = if named.is_none() { &[DESCRIBE, COMPLETE] } else { &[COMPLETE] };
        let fake = FakeGroup::start(Some("Warmed:Pending")).await;
        let group = fake.group();
        let tried = group.complete_launch("i-1", named, "launch", Target::Warmed).await.unwrap();
        assert_eq!(tried, Launch::NotYet);
        assert_eq!(fake.called(), [first, &[DESCRIBE]].concat());
        fake.book().launching = Some("launch");
        let tried = group.complete_launch("i-1", named, "launch", Target::Warmed).await.unwrap();
        assert_eq!(tried, Launch::Completed);
        assert_eq!(fake.called(), first);
    }
}

#[tokio::test]
async fn a_launching_hook_that_holds_nothing_is_no_failure() {
    for (target, state) in [
        (Target::InService, "Pending:Proceed"),
        (Target::InService, "InService"),
        (Target::InService, "Standby"),
        (Target::Warmed, "Warmed:Pending:Proceed"),
        (Target::Warmed, "Warmed:Running"),
        (Target::Warmed, "Warmed:Stopped"),
    ] {
        let fake = FakeGroup::start(Some(state)).await;
        let tried = fake.group().complete_launch("i-1", Some("gpus"), "launch", target).await.unwrap();
        assert_eq!(tried, Launch::NotHeld, "{state}");
    }
}

/// One that leaves the pool, and one that comes back to it (ReuseOnScaleIn): the target is told before the state shows it.
#[tokio::test]
async fn an_instance_whose_state_lags_behind_its_target_is_held_yet() {
    for (target, before, then) in [
        (Target::InService, "Warmed:Running", "Pending:Wait"),
        (Target::InService, "Warmed:Stopped", "Pending:Wait"),
        (Target::Warmed, "InService", "Warmed:Pending:Wait"),
        (Target::Warmed, "Terminating", "Warmed:Pending:Wait"),
        (Target::Warmed, "Terminating:Proceed", "Warmed:Pending:Wait"),
    ] {
        let fake = FakeGroup::start(Some(before)).await;
        let group = fake.group();
        let tried = group.complete_launch("i-1", Some("gpus"), "launch", target).await.unwrap();
        assert_eq!(tried, Launch::NotYet, "{before}, wanted {target:?}");
        fake.book().state = Some(then);
        fake.book().launching = Some("launch");
        let tried = group.complete_launch("i-1", Some("gpus"), "launch", target).await.unwrap();
        assert_eq!(tried, Launch::Completed, "{then}");
    }
}

#[tokio::test]
async fn why_a_launching_hook_cannot_be_completed_is_told_with_the_mend() {
    const TARGET: Target = Target::InService;
    for (target, state) in [(TARGET, "Pending:Wait"), (Target::Warmed, "Warmed:Pending:Wait")] {
        let fake = FakeGroup::start(Some(state)).await;
        fake.book().launching = Some("other");
        let error = fake.group().complete_launch("i-1", None, "launch", target).await;
        let error = error.unwrap_err().to_string();
        let says = format!("does not hold this instance, which is {state}; give --launching-hook the name");
        assert!(error.contains(&says), "{error}");
    }
    let fake = FakeGroup::start(None).await;
    let error = fake.group().complete_launch("i-1", None, "launch", TARGET).await.unwrap_err().to_string();
    assert_eq!(error, "it belongs to no Auto Scaling group, which --launching-hook is for; leave that out");
    let fake = FakeGroup::start(Some("Pending:Wait")).await;
    fake.fail(COMPLETE, 403, "AccessDenied", "no");
    let error = fake.group().complete_launch("i-1", Some("gpus"), "launch", TARGET).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("allow autoscaling:CompleteLifecycleAction to this instance's role"), "{error}");
}

#[tokio::test]
async fn the_instance_is_ended_with_decrement_and_its_hook_completed() {
    let fake = FakeGroup::start(Some("InService")).await;
    let group = fake.group();
    group.end("i-1").await.unwrap();
    assert_eq!(fake.called(), ["DescribeAutoScalingInstances", "TerminateInstanceInAutoScalingGroup"]);
    assert!(!group.complete("i-1").await.unwrap());
    assert_eq!(fake.called(), ["DescribeAutoScalingInstances"]);
    fake.book().state = Some("Terminating:Wait");
    timeout(Duration::from_secs(60), group.let_go("i-1")).await.unwrap();
    let called = fake.called();
    let expected = ["DescribeAutoScalingInstances", "DescribeLifecycleHooks", "CompleteLifecycleAction"];
    assert_eq!(called[..3], expected);
    assert_eq!(called[3..], ["DescribeAutoScalingInstances"]);
}

#[tokio::test]
async fn an_end_whose_answer_was_lost_is_not_asked_for_again() {
    for state in ["Terminating", "Terminating:Wait", "Terminating:Proceed", "Terminated"] {
        let fake = FakeGroup::start(Some(state)).await;
        fake.group().end("i-1").await.unwrap();
        assert_eq!(fake.called(), ["DescribeAutoScalingInstances"], "{state}");
    }
    // Nor does the SDK ask again by itself.
    let fake = FakeGroup::start(Some("InService")).await;
    fake.fail("TerminateInstanceInAutoScalingGroup", 500, "InternalFailure", "");
    assert!(fake.group().end("i-1").await.is_err());
    assert_eq!(fake.called().len(), 2);
}

#[tokio::test]
async fn what_the_group_says_is_told_in_one_line_with_the_mend() {
    const TERMINATE: &str = "TerminateInstanceInAutoScalingGroup";
    let min_size = "Currently, desiredSize equals minSize (1). Terminating instance without replacement will violate \
                    group's min size constraint.";
    for (action, status, code, message, says) in [
        (DESCRIBE, 403, "AccessDenied", "no", "allow autoscaling:DescribeAutoScalingInstances to this"),
        (TERMINATE, 403, "AccessDenied", "no", "allow autoscaling:TerminateInstanceInAutoScalingGroup to"),
        (TERMINATE, 400, "ValidationError", min_size, "group 'gpus' is at its MinSize; lower MinSize"),
        (TERMINATE, 400, "ValidationError", "two\nlines", "failed (ValidationError: two lines); look"),
        (TERMINATE, 400, "Throttling", "Rate exceeded", "is held off (Throttling: Rate exceeded)"),
        (TERMINATE, 400, "ScalingActivityInProgress", "", "is held off (ScalingActivityInProgress"),
        (DESCRIBE, 403, "ExpiredToken", "old", "is refused for its credentials; give this instance a role"),
    ] {
        let fake = FakeGroup::start(Some("InService")).await;
        fake.fail(action, status, code, message);
        let error = fake.group().end("i-1").await.unwrap_err().to_string();
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
        assert_eq!(fake.book().state, Some("InService"));
    }
    for (state, says) in [
        (None, "belongs to no Auto Scaling group"),
        (Some("Standby"), "is Standby, not InService"),
        (Some("Pending:Wait"), "is Pending:Wait, not InService"),
        (Some("Warmed:Running"), "is Warmed:Running, not InService"),
    ] {
        let fake = FakeGroup::start(state).await;
        let error = fake.group().end("i-1").await.unwrap_err().to_string();
        assert!(error.contains(says) && error.lines().count() == 1, "{error}");
    }
    let error = group("http://127.0.0.1:9").end("i-1").await.unwrap_err().to_string();
    assert!(error.contains("refused") && error.lines().count() == 1, "{error}");
}
