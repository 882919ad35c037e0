//! What the page shows and who may see it, at the program itself: its events while a server comes and goes, and its
//! session across restarts.

use std::time::Duration;

use paddock::core::snapshot::{HappeningKind, PoolSnapshot};
use paddock::dashboard::{Snapshot, Timeline};
use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use serde_json::json;
use tokio::net::TcpStream;

use crate::support::http::{self, RawClient, post_json};
use crate::support::program::Paddock;
use crate::support::wait::free_addr;

const CHAT: &str = "/v1/chat/completions";

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A llama.cpp with two free slots that answers everything.
const SERVER: &str = r#"
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answers = {"/health": {"status": "ok"}, "/props": {"total_slots": 2},
                   "/slots": [{"id": n, "is_processing": False} for n in range(2)]}
        body = json.dumps(answers.get(self.path.split("?")[0], {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

/// One who watches the events.
struct Watcher {
    stream: RawClient,
}

impl Watcher {
    async fn start(paddock: &Paddock) -> Self {
        let mut stream = RawClient::<TcpStream>::connect(paddock.management()).await;
        stream.send("GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await;
        let head = stream.head().await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        Self { stream }
    }

    /// The next state; none at the end.
    async fn next(&mut self) -> Option<Snapshot> {
        let event = self.stream.chunk().await.expect("the stream was cut")?;
        let event = std::str::from_utf8(&event).unwrap();
        let data = event.strip_prefix("event: state\nretry: 1000\ndata: ").unwrap();
        Some(serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap())
    }

    /// Watches until it is so.
    async fn until(&mut self, what: &str, is_so: impl Fn(&PoolSnapshot) -> bool) -> PoolSnapshot {
        let watching = async {
            loop {
                let pool = self.next().await.expect("the stream ended").pools.remove(0);
                if is_so(&pool) {
                    return pool;
                }
            }
        };
        tokio::time::timeout(PATIENCE, watching).await.unwrap_or_else(|_| panic!("not seen: {what}"))
    }
}

fn happened(pool: &PoolSnapshot) -> Vec<(HappeningKind, Option<&str>)> {
    pool.happenings.iter().map(|happening| (happening.kind, happening.cause.as_deref())).collect()
}

#[tokio::test]
async fn a_server_that_comes_and_goes_is_watched_and_remembered() {
    let command = ["--idle-timeout", "1s", "--", "python3", "-c", SERVER, "{port}"];
    let mut paddock = Paddock::start(&command).await;
    let mut watcher = Watcher::start(&paddock).await;
    let at_zero = watcher.next().await.unwrap().pools.remove(0);
    assert_eq!((at_zero.instances.len(), happened(&at_zero)), (0, Vec::new()));

    let answer = post_json(paddock.proxy(), CHAT, &json!({"messages": []})).await;
    assert_eq!(answer.status, 200);
    // It may be gone before it is seen: what is remembered of it stays.
    let up = watcher.until("a boot", |pool| !pool.boots.is_empty()).await;
    let ([(first, why), (second, took), ..], boots) = (&happened(&up)[..], &up.boots) else {
        panic!("{up:?}")
    };
    assert_eq!(
        (*first, *why, *second),
        (HappeningKind::WakeAsked, Some("1 request waits"), HappeningKind::Registered)
    );
    assert!(took.is_some_and(|took| took.starts_with("after ") && took.ends_with(" s")), "{took:?}");
    assert!(boots.len() == 1 && boots[0].total_seconds > 0.0, "{boots:?}");

    let down = watcher.until("its end", |pool| happened(pool).len() == 4 && pool.instances.is_empty()).await;
    let last = &happened(&down)[2..];
    assert_eq!(
        last,
        [(HappeningKind::DrainBegan, Some("it is not needed any more")), (HappeningKind::Ended, None)]
    );
    let ago: Vec<f64> = down.happenings.iter().map(|happening| happening.ago_seconds).collect();
    assert!(ago.is_sorted_by(|earlier, later| earlier >= later), "{ago:?}");
    // Nothing happens any more, and its age grows all the same.
    watcher.until("its age", |pool| pool.happenings[3].ago_seconds > 2.0).await;

    paddock.sigterm();
    let left = async { while watcher.next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(5), left).await.expect("the stream goes on");
    assert_eq!(paddock.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_boot_that_fails_is_remembered_with_its_cause() {
    let paddock = Paddock::start(&["--", "sh", "-c", "echo no model on {port} >&2; exit 3"]).await;
    let mut watcher = Watcher::start(&paddock).await;
    assert_eq!(post_json(paddock.proxy(), CHAT, &json!({"messages": []})).await.status, 503);
    let is_failure = |kind| matches!(kind, HappeningKind::BootFailed);
    let pool =
        watcher.until("a failed boot", |pool| happened(pool).iter().any(|(kind, _)| is_failure(*kind))).await;
    let failed = happened(&pool).into_iter().find(|(kind, _)| is_failure(*kind)).unwrap();
    assert!(
        failed.1.is_some_and(|cause| cause.contains("code 3") && cause.contains("no model on")),
        "{failed:?}"
    );
    assert!(pool.happenings.iter().any(|happening| happening.instance == Some("process-1".into())));

    let paddock = Paddock::start(&["--", "no-such-llama-server", "{port}"]).await;
    let mut watcher = Watcher::start(&paddock).await;
    post_json(paddock.proxy(), CHAT, &json!({"messages": []})).await;
    let pool = watcher.until("a failed wake", |pool| happened(pool).len() >= 2).await;
    let (kind, cause) = happened(&pool)[1];
    assert_eq!(kind, HappeningKind::WakeFailed);
    assert!(cause.is_some_and(|cause| cause.contains("no-such-llama-server")), "{cause:?}");
}

/// Asks as a browser does that does not follow.
async fn get(paddock: &Paddock, path: &str, cookie: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let asked = client.build().unwrap().get(format!("http://{}{path}", paddock.management()));
    let answer = asked.header(COOKIE, cookie).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The cookie, or why there is none.
async fn log_in(paddock: &Paddock, token: &str) -> Result<String, u16> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let origin = format!("http://{}", paddock.management());
    let asked = client.build().unwrap().post(format!("{origin}/dashboard/login"));
    let asked = asked.header("origin", origin).header("content-type", "application/x-www-form-urlencoded");
    let answer = asked.body(format!("token={token}")).send().await.unwrap();
    let cookie = answer.headers().get(SET_COOKIE).ok_or(answer.status().as_u16())?;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()[LOCATION]),
        (303, &"/dashboard".parse().unwrap())
    );
    Ok(cookie.to_str().unwrap().split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn a_session_outlives_a_restart_and_dies_with_the_token() {
    let (proxy, management) = (free_addr(), free_addr());
    let with = async |token: &str| {
        let flags = ["--management-dashboard-enable", "--management-token", token];
        Paddock::start_on(proxy, management, &flags).await
    };
    let mut paddock = with("sesame").await;
    assert_eq!(log_in(&paddock, "open").await, Err(401));
    let cookie = log_in(&paddock, "sesame").await.unwrap();
    let is_in = async |paddock: &Paddock| {
        let (status, page) = get(paddock, "/dashboard", &cookie).await;
        let is_page = !page.contains("/dashboard/login\"");
        let codes = (
            status,
            get(paddock, "/api/v1/state", &cookie).await.0,
            get(paddock, "/metrics", &cookie).await.0,
        );
        (is_page, codes)
    };
    assert_eq!(is_in(&paddock).await, (true, (200, 200, 200)));
    paddock.sigterm();
    paddock.wait().await;

    let mut paddock = with("sesame").await;
    assert_eq!(is_in(&paddock).await, (true, (200, 200, 200)), "after a restart");
    paddock.sigterm();
    paddock.wait().await;

    let paddock = with("another").await;
    assert_eq!(is_in(&paddock).await, (false, (200, 401, 401)), "with another token");
    assert!(!paddock.output().contains("sesame") && !paddock.output().contains(&cookie));
}

#[tokio::test]
async fn without_its_flag_there_is_no_page_and_the_api_serves_all_the_same() {
    let paddock = Paddock::start(&[]).await;
    let (status, said) = get(&paddock, "/dashboard", "").await;
    assert!(status == 404 && said.contains("--management-dashboard-enable"), "{status} {said}");
    let timeline = http::get(paddock.management(), "/api/v1/timeline").await;
    let timeline: Timeline = serde_json::from_slice(&timeline.body).unwrap();
    assert_eq!(timeline.step_seconds, 10.0);
    assert!(Watcher::start(&paddock).await.next().await.is_some());

    let paddock = Paddock::start(&["--management-dashboard-enable"]).await;
    let (status, page) = get(&paddock, "/dashboard", "").await;
    assert!(status == 200 && page.contains("/dashboard/app.js"), "{status} {page}");
    assert_eq!(get(&paddock, "/", "").await.0, 303);
    assert!(!paddock.output().contains("WARN"), "the flag does what it says");
}
