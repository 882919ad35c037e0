//! The ledger and its file: budgets over HTTP, restarts, damage, kills at any write.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use paddock::clock::Clock;
use paddock::core::{Day, GroupId, LedgerRecord, Usage};
use paddock::ledger::{FILE_NAME, Store};
use serde_json::{Value, json};

use crate::cli::{complaint, paddock};
use crate::support::fake_aws::{
    AgentConfig, FakeAws, FakeAwsConfig, Fault, GroupConfig, Lifecycle, LlamaConfig, MachineConfig,
};
use crate::support::fake_llama::FakeConfig;
use crate::support::folder::Folder;
use crate::support::http::{self, RawClient, post_json};
use crate::support::program::Paddock;
use crate::support::wait::{eventually, free_addr};

const CHAT: &str = "/v1/chat/completions";
const SOON: Duration = Duration::from_secs(30);
/// The sum of many floats differs from their exact sum.
const SECONDS_OFF_MAX: f64 = 0.001;
/// AWS tells whole seconds, and an end or a launch is seen by looks.
const HISTORY_OFF_MAX: f64 = 3.0;

/// AWS with one group, and a gateway that keeps a ledger.
struct Scene {
    aws: FakeAws,
    paddock: Paddock,
    folder: Folder,
    flags: Vec<String>,
}

impl Scene {
    async fn start(flags: &[&str]) -> Self {
        Self::after(GroupConfig::default(), |_, _| (), flags).await
    }

    /// After what the group and the file remember.
    async fn after(group: GroupConfig, prepare: impl FnOnce(&FakeAws, &Folder), flags: &[&str]) -> Self {
        let (proxy, management) = (free_addr(), free_addr());
        let llama = LlamaConfig::Fake(FakeConfig { slots: 2, ..FakeConfig::default() });
        let agent = AgentConfig::reporting_to(management);
        let machine = MachineConfig { llama, agent, ..group.machine };
        let aws = FakeAws::start(FakeAwsConfig::of(GroupConfig { machine, ..group })).await;
        let folder = Folder::new();
        prepare(&aws, &folder);
        let dir = folder.path("").display().to_string();
        let flags = [&["--asg-name", "gpu", "--state-dir", &dir], flags].concat();
        let flags: Vec<String> = flags.into_iter().map(str::to_owned).collect();
        let paddock = Self::started(&aws, proxy, management, &flags).await;
        Self { aws, paddock, folder, flags }
    }

    async fn started(
        aws: &FakeAws,
        proxy: std::net::SocketAddr,
        management: std::net::SocketAddr,
        flags: &[String],
    ) -> Paddock {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Paddock::start_on_in(&aws.environment(), proxy, management, &flags).await
    }

    /// A server was started and has answered, and a look has shown its instance.
    async fn served(&self) {
        let ask = async || post_json(self.paddock.proxy(), CHAT, &chat()).await.status;
        assert_eq!(ask().await, 200);
        eventually("its instance counts", SOON, async || (self.seconds().await > 0.0).then_some(())).await;
        assert_eq!(ask().await, 200);
    }

    /// Once the old one has ended.
    async fn again(&mut self) {
        let (proxy, management) = (self.paddock.proxy(), self.paddock.management());
        self.paddock.wait().await;
        self.paddock = Self::started(&self.aws, proxy, management, &self.flags).await;
    }

    async fn ledger(&self) -> Value {
        self.paddock.state().await["pools"][0]["ledger"].clone()
    }

    async fn seconds(&self) -> f64 {
        self.ledger().await["today"]["instance_seconds"].as_f64().unwrap()
    }

    /// They are about as many as its instance has run, by AWS's own account.
    async fn seconds_as_it_ran(&self) -> Result<f64, String> {
        let launched = self.aws.group("gpu").instances()[0].launched.mono;
        let ran = || self.aws.clock().mono().since(launched).as_secs_f64();
        let (least, found, most) = (ran() - HISTORY_OFF_MAX, self.seconds().await, ran() + HISTORY_OFF_MAX);
        let is_so = least <= found && found <= most;
        is_so.then_some(found).ok_or_else(|| format!("{found} s, and not from {least} to {most} s"))
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.path(FILE_NAME)).unwrap()
    }
}

/// What a balancer kept so long ago: so much had run today, and these ran.
fn kept(ago: Duration, ran: Duration, instances: &[&str]) -> String {
    let at = Clock::start().now().wall - ago;
    let time = humantime::format_rfc3339_nanos(SystemTime::UNIX_EPOCH + at).to_string();
    let used = json!({"gpu": {"instance_nanoseconds": ran.as_nanos() as u64, "busy_nanoseconds": 0}});
    let instances: BTreeMap<&str, &str> = instances.iter().map(|&id| (id, "gpu")).collect();
    let days = json!({Day::of(at).to_string(): used});
    json!({"version": 1, "balancer": 1, "at": time, "began": time, "days": days, "instances": instances})
        .to_string()
}

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "hello"}]})
}

#[tokio::test]
async fn a_wake_beyond_the_budget_is_refused_in_each_dialect_and_nobody_is_asked() {
    let scene = Scene::start(&["--price-per-hour", "g4dn.xlarge", "--max-cost-per-day", "0.000001"]).await;
    let answer = post_json(scene.paddock.proxy(), CHAT, &chat()).await;
    assert_eq!(answer.status, 503);
    let error = answer.json()["error"].clone();
    assert_eq!(
        (error["code"].as_str(), error["type"].as_str()),
        (Some("budget_exhausted"), Some("unavailable_error"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("--max-cost-per-day") && message.ends_with("T00:00:00Z"), "{message}");
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&retry_after), "{retry_after}");
    let messages = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]});
    let answer = post_json(scene.paddock.proxy(), "/v1/messages", &messages).await;
    let body = answer.json();
    assert_eq!((answer.status, body["type"].as_str()), (503, Some("error")));
    assert_eq!(
        (body["error"]["code"].as_str(), body["error"]["type"].as_str()),
        (Some("budget_exhausted"), Some("overloaded_error"))
    );
    let budget = &scene.ledger().await["budget"];
    assert_eq!((&budget["usd_per_day"], &budget["is_exhausted"]), (&json!(0.000_001), &json!(true)));
    assert_eq!(scene.aws.calls_of("SetDesiredCapacity").len(), 0);
    let metrics = http::get(scene.paddock.management(), "/metrics").await.text();
    assert!(
        metrics.contains("paddock_requests_total{pool=\"default\",outcome=\"budget_exhausted\"} 2\n"),
        "{metrics}"
    );
    assert!(metrics.contains("paddock_wake_wanted{pool=\"default\"} 0\n"), "no alarm starts one instead");
}

#[tokio::test]
async fn what_runs_while_no_balancer_does_is_rebuilt_from_the_groups_activities() {
    let mut scene = Scene::start(&["--price-per-hour", "3600", "--idle-timeout", "1h"]).await;
    let before = Clock::start();
    scene.served().await;
    let counted = scene.seconds().await;
    let most = before.mono().0.as_secs_f64();
    assert!(counted > 0.0 && counted <= most, "{counted} of {most}");
    // Killed before it kept anything: its groups remember.
    scene.paddock.sigkill();
    scene.again().await;
    eventually("the fleet was looked at", SOON, async || (scene.seconds().await >= counted).then_some(()))
        .await;
    let found = scene.seconds_as_it_ran().await.unwrap();
    let ledger = scene.ledger().await;
    let cost = ledger["today"]["cost_usd"].as_f64().unwrap();
    assert!(
        (cost - ledger["today"]["instance_seconds"].as_f64().unwrap()).abs() < SECONDS_OFF_MAX,
        "{ledger}"
    );
    // The file is lost as well.
    scene.paddock.sigkill();
    scene.paddock.wait().await;
    fs::remove_file(scene.folder.path(FILE_NAME)).unwrap();
    scene.again().await;
    eventually("the fleet was looked at", SOON, async || (scene.seconds().await >= found).then_some(()))
        .await;
    scene.seconds_as_it_ran().await.unwrap();
}

#[tokio::test]
async fn an_end_that_was_held_over_a_restart_counts_until_it_was_over() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let prepare = |aws: &FakeAws, folder: &Folder| {
        // AWS tells one that never ends before all others, however old it is.
        let group = aws.group("gpu");
        group.remember("Terminating EC2 instance: i-0stuck", minutes(1800), None);
        group.remember("Terminating EC2 instance: i-0held", minutes(180), Some(minutes(1)));
        folder.write(FILE_NAME, &kept(minutes(5), Duration::ZERO, &["i-0held"]));
    };
    let flags = ["--price-per-hour", "3600"];
    let scene = Scene::after(GroupConfig::default(), prepare, &flags).await;
    let found = eventually("its end is counted", SOON, async || {
        Some(scene.seconds().await).filter(|&found| found > 0.0)
    })
    .await;
    assert!((found - 240.0).abs() <= HISTORY_OFF_MAX, "{found}");
}

#[tokio::test]
async fn a_memory_that_is_told_after_the_start_is_counted_then() {
    let mut scene = Scene::start(&["--price-per-hour", "3600", "--idle-timeout", "1h"]).await;
    let before = Clock::start();
    scene.served().await;
    scene.paddock.sigkill();
    scene.paddock.wait().await;
    fs::remove_file(scene.folder.path(FILE_NAME)).unwrap();
    // The start's own question is refused at once; that for what ran takes longer than the start waits.
    let ask = Some("DescribeScalingActivities");
    scene.aws.inject(ask, Fault::AccessDenied, Some(1));
    scene.aws.inject(ask, Fault::Slow(Duration::from_millis(1)), Some(1));
    scene.aws.inject(ask, Fault::Slow(Duration::from_secs(12)), Some(2));
    scene.again().await;
    assert_eq!(post_json(scene.paddock.proxy(), CHAT, &chat()).await.status, 200, "it serves meanwhile");
    assert!(scene.paddock.output().contains("AWS does not answer yet"), "{}", scene.paddock.output());
    eventually("what ran is told", SOON, async || {
        let found = scene.seconds().await;
        let most = before.mono().0.as_secs_f64();
        (found <= most + HISTORY_OFF_MAX && found >= most - HISTORY_OFF_MAX).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_day_that_is_spent_while_something_serves_lets_it_finish_and_refuses_the_rest() {
    let prepare = |_: &FakeAws, folder: &Folder| {
        folder.write(FILE_NAME, &kept(Duration::ZERO, Duration::from_secs(100), &[]));
    };
    // A second costs one USD, and the group has launched an instance by itself: there are some seconds left.
    let group = GroupConfig { desired: 1, ..GroupConfig::default() };
    let flags = ["--price-per-hour", "3600", "--max-cost-per-day", "115", "--idle-timeout", "1h"];
    let scene = Scene::after(group, prepare, &flags).await;
    let group = scene.aws.group("gpu");
    let mut client = RawClient::connect(scene.paddock.proxy()).await;
    client.post(CHAT, &json!({"messages": [], "stream": true, "fake": {"hold_stream": "end"}})).await;
    assert_eq!(client.head().await.status, 200);
    assert!(client.chunk().await.unwrap().is_some(), "its first word");
    eventually("the day is spent", SOON, async || {
        let instances = scene.paddock.state().await["pools"][0]["instances"].clone();
        (instances[0]["drain"] == json!("budget")).then_some(())
    })
    .await;
    let answer = post_json(scene.paddock.proxy(), CHAT, &chat()).await;
    let error = answer.json()["error"].clone();
    assert_eq!((answer.status, error["code"].as_str()), (503, Some("budget_exhausted")));
    assert!(error["message"].as_str().unwrap().ends_with("T00:00:00Z"), "{error}");
    assert!(answer.header("retry-after").is_some());
    assert_eq!(group.ids(Lifecycle::InService).len(), 1, "its answer runs");
    group.machine(&group.ids(Lifecycle::InService)[0]).llama().unwrap().release("end");
    let (rest, is_whole) = client.body().await;
    assert!(is_whole && rest.ends_with(b"data: [DONE]\n\n"), "{rest:?}");
    eventually("it ends", SOON, async || group.instances().is_empty().then_some(())).await;
    assert_eq!(scene.aws.harm(), [""; 0]);
}

#[tokio::test]
async fn a_drain_keeps_what_its_successor_goes_on_with() {
    let mut scene = Scene::start(&["--price-per-hour", "3600", "--idle-timeout", "1h"]).await;
    scene.served().await;
    let busy = scene.ledger().await["today"]["busy_seconds"].as_f64().unwrap();
    assert!(busy > 0.0);
    scene.paddock.sigterm();
    scene.paddock.wait().await;
    let text = scene.text();
    assert!(text.contains("\"gpu\"") && text.contains("i-"), "{text}");
    scene.again().await;
    eventually("the fleet was looked at", SOON, async || scene.seconds_as_it_ran().await.ok()).await;
    assert_eq!(scene.ledger().await["today"]["busy_seconds"].as_f64(), Some(busy), "what was busy is kept");
    let number = |text: &str| serde_json::from_str::<Value>(text).unwrap()["balancer"].as_u64().unwrap();
    assert!(number(&scene.text()) > number(&text));
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_said() {
    let folder = Folder::new();
    folder.write(FILE_NAME, "{\"version\": 1, \"balancer\": 3");
    let paddock = Paddock::start(&["--state-dir", &folder.path("").display().to_string()]).await;
    let said = paddock.until_says("clients on").await;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("damaged")).collect();
    assert!(matches!(lines[..], [line] if line.contains("WARN") && line.contains("set aside")), "{said}");
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert!(
        matches!(&names[..], [new, old] if new == FILE_NAME && old.starts_with("ledger.json.damaged-1")),
        "{names:?}"
    );
}

#[test]
fn a_directory_that_is_not_there_is_one_line_and_no_start() {
    let folder = Folder::new();
    let dir = folder.path("missing").display().to_string();
    let mut command = paddock();
    let (proxy, management) = (free_addr().to_string(), free_addr().to_string());
    command.args(["balancer", "--reverseproxy-addr", &proxy, "--management-addr", &management]);
    let line = complaint(command.args(["--state-dir", &dir]), 1);
    assert!(line.starts_with(&format!("--state-dir: '{dir}' cannot be written to (No such file")), "{line}");
}

// Kills.

/// Kills, each at a moment of its own.
const KILLS: usize = 60;
/// The most that a child keeps before it is killed: some are killed at their first write.
const KEPT_MAX: u64 = 3;
/// From the last of these to the kill: a part of what another write takes.
const MOMENT_MAX: Duration = Duration::from_millis(2);
const DIR: &str = "PADDOCK_TEST_LEDGER_DIR";
const WALL: Duration = Duration::from_secs(1_795_500_000);

/// A record whose values all follow from one number, large enough that it takes more than one page.
fn numbered(number: u64) -> LedgerRecord {
    let used = Usage { instance: Duration::from_secs(number * 2), busy: Duration::from_secs(number) };
    let groups: BTreeMap<GroupId, Usage> = (0..3).map(|group| (GroupId(group), used)).collect();
    LedgerRecord {
        at: WALL + Duration::from_secs(number),
        began: WALL,
        days: (0..60).map(|day| (Day(Day::of(WALL).0 - day), groups.clone())).collect(),
        instances: (0..50).map(|at| (format!("i-{number}-{at}").as_str().into(), GroupId(0))).collect(),
    }
}

fn groups() -> Vec<Arc<str>> {
    ["a", "b", "c"].map(Arc::from).to_vec()
}

fn number_of(record: &LedgerRecord) -> u64 {
    record.at.saturating_sub(WALL).as_secs()
}

/// The number of the balancer that wrote the file, and that of the record. Zeros before there is a file.
fn written(file: &Path) -> (u64, u64) {
    let Ok(text) = fs::read(file) else { return (0, 0) };
    let file: Value = serde_json::from_slice(&text).unwrap();
    let at = humantime::parse_rfc3339(file["at"].as_str().unwrap()).unwrap();
    let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    (file["balancer"].as_u64().unwrap(), at.saturating_sub(WALL).as_secs())
}

/// The child of the test below: writes until it is killed.
#[test]
#[ignore = "runs as a child of another test"]
fn writes_without_end() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let (mut store, found) = Store::open(Path::new(&dir), groups(), WALL).unwrap();
    for number in found.as_ref().map_or(0, number_of) + 1.. {
        store.keep(&numbered(number));
    }
}

#[test]
fn a_kill_at_any_write_leaves_the_old_file_or_the_new_one() {
    let folder = Folder::new();
    let program = std::env::current_exe().unwrap();
    // Numbers begin at the time of the first start.
    let first = u64::try_from(WALL.as_millis()).unwrap();
    let mut last = 0;
    for kill in 0..KILLS as u64 {
        let mut child = Command::new(&program)
            .args(["--exact", "ledger::writes_without_end", "--ignored", "--nocapture"])
            .env(DIR, folder.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It has begun once the file says so, and goes on from the last number.
        let (began, enough) = (Clock::start(), last + fastrand::u64(..=KEPT_MAX));
        let is_enough = |(balancer, number)| balancer == first + kill * 2 && number >= enough;
        while !is_enough(written(&folder.path(FILE_NAME))) {
            assert!(began.mono().0 < SOON, "the child writes nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(MOMENT_MAX.mul_f64(fastrand::f64()));
        child.kill().unwrap();
        child.wait().unwrap();
        // Its number is the next, so this start is part of the count.
        let (_, found) = Store::open(folder.as_ref(), groups(), WALL).unwrap();
        let Some(found) = found else { panic!("kill {kill}: the file is gone or damaged") };
        if found.instances.is_empty() {
            assert_eq!(last, 0, "kill {kill}: an empty ledger after a full one");
            continue;
        }
        let number = number_of(&found);
        assert_eq!(found, numbered(number), "kill {kill}: it is one that was written, whole");
        assert!(number >= last, "kill {kill}: {number} after {last}");
        last = number;
    }
    assert!(last > 0, "the children wrote");
    Store::open(folder.as_ref(), groups(), Clock::start().now().wall + Duration::from_secs(86_400)).unwrap();
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE_NAME], "what was begun is cleared away");
}
