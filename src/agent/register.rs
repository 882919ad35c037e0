//! Keeps one balancer informed over one long-lived request, and comes back when it is lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use reqwest::{Body, Client, StatusCode, redirect};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Observation, cause, read_body};
use crate::clock::Clock;
use crate::protocol::plain;

/// To connect. Longer than a lost SYN's first repeat (1 s), short enough to be back soon after a restart.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A silent peer is asked for a sign of life after this time, and again at this pace.
const TCP_KEEPALIVE: Duration = Duration::from_secs(5);

/// So many unanswered signs mean that the peer is gone.
const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// Sent bytes that are not acknowledged for so long mean the same.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream that was not refused for so long is accepted: the balancer answers only to refuse or to end.
const ACCEPTED_AFTER: Duration = Duration::from_millis(500);

/// The longest pause before the first retry.
const BACKOFF_MIN: Duration = Duration::from_millis(200);

/// The longest pause at all: agents are back within 2 s of a balancer's restart.
const BACKOFF_MAX: Duration = Duration::from_millis(1500);

/// The longest refusal that is read; only its beginning is logged.
const REFUSAL_BYTES_MAX: usize = 16 * 1024;

/// How much of a refusal is logged.
const REFUSAL_LOGGED_BYTES_MAX: usize = 300;

/// To read a refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

type Observations = watch::Receiver<Option<Arc<Observation>>>;

/// A balancer to register with.
pub(super) struct Balancer {
    /// Its management address, as `host:port`.
    pub management: String,
    /// What it asks for as Bearer token.
    pub token: Option<String>,
}

/// Sends the latest observation at once and each new one, reconnecting until cancelled. On a slow connection
/// observations are skipped, never queued. `registered` counts the balancers that accept them.
pub(super) async fn register(
    balancer: Balancer,
    agent: String,
    observations: Observations,
    registered: watch::Sender<u32>,
    clock: Clock,
    cancel: CancellationToken,
) {
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            error!(management = balancer.management, %error, "cannot register: no HTTP client");
            return;
        }
    };
    let url = format!("http://{}/status_update/{agent}", balancer.management);
    let mut link = Link { management: balancer.management, state: State::New, registered };
    let mut backoff = BACKOFF_MIN;
    let registering = async {
        loop {
            let (started, start) = oneshot::channel();
            let mut request =
                client.post(&url).body(Body::wrap_stream(reports(observations.clone(), clock, started)));
            if let Some(token) = &balancer.token {
                request = request.bearer_auth(token);
            }
            let answer = request.send();
            tokio::pin!(answer);
            let answer = tokio::select! {
                answer = &mut answer => answer,
                () = accepted(start) => {
                    link.change(State::Registered);
                    backoff = BACKOFF_MIN;
                    answer.await
                }
            };
            link.change(ended(answer).await);
            tokio::time::sleep(pause(backoff, fastrand::f64())).await;
            backoff = longer(backoff);
        }
    };
    let _: Option<()> = cancel.run_until_cancelled(registering).await;
}

/// The next pause, by chance: all agents of a balancer lose it at once.
fn pause(backoff: Duration, chance: f64) -> Duration {
    backoff.mul_f64(chance)
}

/// The longest pause after one that was at most `backoff`.
fn longer(backoff: Duration) -> Duration {
    (backoff * 2).min(BACKOFF_MAX)
}

fn client() -> Result<Client, reqwest::Error> {
    let builder = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .http1_only()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(TCP_KEEPALIVE)
        .tcp_keepalive_interval(TCP_KEEPALIVE)
        .tcp_keepalive_retries(TCP_KEEPALIVE_RETRIES);
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(TCP_USER_TIMEOUT);
    builder.build()
}

/// The body: a JSON object and a newline for each observation, beginning with the latest. `started` is told when
/// the connection asks for the first one.
fn reports(
    mut observations: Observations,
    clock: Clock,
    started: oneshot::Sender<()>,
) -> impl Stream<Item = Result<Bytes, serde_json::Error>> {
    observations.mark_changed();
    stream::unfold((observations, Some(started)), move |(mut observations, mut started)| async move {
        if let Some(started) = started.take() {
            let _ = started.send(());
        }
        let latest = loop {
            observations.changed().await.ok()?;
            if let Some(latest) = observations.borrow_and_update().clone() {
                break latest;
            }
        };
        let line = serde_json::to_vec(&latest.to_status(clock.now())).map(|mut line| {
            line.push(b'\n');
            Bytes::from(line)
        });
        Some((line, (observations, started)))
    })
}

/// Waits until a stream that has started can be taken as accepted; for ever if it does not start.
async fn accepted(start: oneshot::Receiver<()>) {
    match start.await {
        Ok(()) => tokio::time::sleep(ACCEPTED_AFTER).await,
        Err(_) => std::future::pending().await,
    }
}

/// What the end of a stream means.
async fn ended(answer: Result<reqwest::Response, reqwest::Error>) -> State {
    let response = match answer {
        Ok(response) => response,
        Err(error) => return State::Lost(cause(&error)),
    };
    let status = response.status();
    if status.is_success() {
        return State::Lost("the balancer ended the stream".to_owned());
    }
    let body = tokio::time::timeout(REFUSAL_TIMEOUT, read_body(response, REFUSAL_BYTES_MAX)).await;
    let body = body.ok().and_then(Result::ok).unwrap_or_default();
    State::Refused(status, plain(&String::from_utf8_lossy(&body), REFUSAL_LOGGED_BYTES_MAX))
}

/// How it stands with one balancer.
#[derive(Debug)]
enum State {
    New,
    Registered,
    Lost(String),
    Refused(StatusCode, String),
}

/// Logs what changes, once.
struct Link {
    management: String,
    state: State,
    registered: watch::Sender<u32>,
}

impl Link {
    fn change(&mut self, state: State) {
        let management = &self.management;
        match (&self.state, &state) {
            (State::Lost(_), State::Lost(_)) | (_, State::New) => {}
            (State::Refused(before, _), State::Refused(now, _)) if before == now => {}
            (_, State::Registered) => info!(%management, "registered with the balancer"),
            (State::New, State::Lost(cause)) => warn!(%management, cause, "no balancer yet; retrying"),
            (_, State::Lost(cause)) => warn!(%management, cause, "lost the balancer; retrying"),
            (_, State::Refused(status, answer)) => {
                warn!(%management, status = status.as_u16(), answer, "the balancer refuses this agent: {}", mend(*status));
            }
        }
        let is_registered = |state: &State| matches!(state, State::Registered);
        match (is_registered(&self.state), is_registered(&state)) {
            (false, true) => self.registered.send_modify(|count| *count += 1),
            (true, false) => self.registered.send_modify(|count| *count -= 1),
            (true, true) | (false, false) => {}
        }
        self.state = state;
    }
}

/// What to do about a refusal.
fn mend(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "set --management-token to the balancer's token",
        StatusCode::FORBIDDEN => {
            "let its --external-llamacpp-addr be this machine's own address, or allow that address with the \
             balancer's --agent-addr-allow"
        }
        StatusCode::NOT_FOUND => "is --management-addr a balancer's management address?",
        _ => "see its answer",
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::super::Times;
    use super::*;
    use crate::core::Mono;
    use crate::protocol::StatusUpdate;

    /// Far above what anything here takes.
    async fn soon<T>(waited: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(20), waited).await.unwrap()
    }

    fn observation(sequence: u64) -> Option<Arc<Observation>> {
        let json = format!(r#"{{"external_llamacpp_addr":"127.0.0.1:1","sequence":{sequence}}}"#);
        let status: StatusUpdate = serde_json::from_str(&json).unwrap();
        Some(Arc::new(Observation { status, sampled: Mono::default(), times: Times::default() }))
    }

    struct Agent {
        latest: watch::Sender<Option<Arc<Observation>>>,
        registered: watch::Receiver<u32>,
        cancel: CancellationToken,
        task: JoinHandle<()>,
    }

    fn agent(management: SocketAddr, token: Option<&str>) -> Agent {
        let (latest, observations) = watch::channel(observation(1));
        let cancel = CancellationToken::new();
        let balancer = Balancer { management: management.to_string(), token: token.map(str::to_owned) };
        let (counted, registered) = watch::channel(0);
        let (id, clock) = ("the-id".to_owned(), Clock::start());
        let task = tokio::spawn(register(balancer, id, observations, counted, clock, cancel.clone()));
        Agent { latest, registered, cancel, task }
    }

    async fn listen() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn accept(listener: &TcpListener) -> TcpStream {
        soon(listener.accept()).await.unwrap().0
    }

    /// What the peer sends, up to and with `end`.
    async fn read_to(stream: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        while !text.contains(end) {
            let mut bytes = [0; 4096];
            let count = soon(stream.read(&mut bytes)).await.unwrap();
            assert_ne!(count, 0, "ended before {end:?}: {text}");
            text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
        text
    }

    fn line(sequence: u64) -> String {
        format!("\"sequence\":{sequence},")
    }

    #[tokio::test]
    async fn the_latest_status_is_sent_at_once_and_then_each_new_one() {
        let (listener, address) = listen().await;
        let agent = agent(address, Some("sesame"));
        let mut stream = accept(&listener).await;
        let text = read_to(&mut stream, "}\n").await;
        assert!(text.starts_with("POST /status_update/the-id HTTP/1.1\r\n"), "{text}");
        let head = text.to_lowercase();
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{text}");
        assert!(head.contains("authorization: bearer sesame\r\n"), "{text}");
        assert!(text.contains(&line(1)) && text.contains("\"sample_age_ms\":"), "{text}");

        agent.latest.send_replace(observation(2));
        let text = read_to(&mut stream, "}\n").await;
        assert!(text.contains(&line(2)), "{text}");

        agent.cancel.cancel();
        soon(agent.task).await.unwrap();
        assert_eq!(soon(stream.read(&mut [0; 64])).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn a_balancer_that_comes_back_gets_the_latest_status() {
        let (listener, address) = listen().await;
        let agent = agent(address, None);
        let mut stream = accept(&listener).await;
        assert!(!read_to(&mut stream, "}\n").await.to_lowercase().contains("authorization"));
        drop((listener, stream));
        agent.latest.send_replace(observation(2));
        agent.latest.send_replace(observation(3));

        let listener = TcpListener::bind(address).await.unwrap();
        let mut stream = accept(&listener).await;
        let text = read_to(&mut stream, "}\n").await;
        assert!(text.contains(&line(3)) && !text.contains(&line(2)), "{text}");
        agent.cancel.cancel();
    }

    /// The rest of the two seconds is for connecting.
    #[test]
    fn the_pause_grows_and_ends_within_two_seconds() {
        let backoffs = || std::iter::successors(Some(BACKOFF_MIN), |backoff| Some(longer(*backoff)));
        let pauses = |chance: f64| {
            backoffs().map(|backoff| pause(backoff, chance).as_millis()).take(5).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1.0), [200, 400, 800, 1500, 1500]);
        assert_eq!(pauses(0.5), [100, 200, 400, 750, 750]);
        assert_eq!(pauses(0.0), [0; 5]);
        assert!(backoffs().take(100).all(|backoff| pause(backoff, 1.0) < Duration::from_secs(2)));
    }

    #[tokio::test]
    async fn an_answer_ends_the_stream_and_the_agent_comes_back() {
        let (listener, address) = listen().await;
        let agent = agent(address, None);
        for answer in ["202 Accepted", "401 Unauthorized", "400 Bad Request", "503 Service Unavailable"] {
            let mut stream = accept(&listener).await;
            read_to(&mut stream, &line(1)).await;
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\nno");
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
        }
        accept(&listener).await;
        agent.cancel.cancel();
    }

    #[tokio::test]
    async fn a_balancer_counts_while_it_accepts() {
        let (listener, address) = listen().await;
        let mut agent = agent(address, None);
        let mut stream = accept(&listener).await;
        read_to(&mut stream, &line(1)).await;
        soon(agent.registered.wait_for(|count| *count == 1)).await.unwrap();
        drop(stream);
        soon(agent.registered.wait_for(|count| *count == 0)).await.unwrap();
        // Refused at once, it does not count.
        agent.registered.mark_unchanged();
        for _ in 0..3 {
            let mut stream = accept(&listener).await;
            read_to(&mut stream, &line(1)).await;
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
        assert!(!agent.registered.has_changed().unwrap());
        agent.cancel.cancel();
    }

    #[tokio::test]
    async fn what_the_end_of_a_stream_means() {
        let answer = |status: u16| {
            let answer = http::Response::builder().status(status).body("secret\nlines").unwrap();
            ended(Ok(answer.into()))
        };
        assert!(matches!(answer(202).await, State::Lost(_)));
        let State::Refused(status, text) = answer(401).await else { panic!("not refused") };
        assert_eq!((status, text.as_str()), (StatusCode::UNAUTHORIZED, "secret lines"));
        assert!(mend(status).contains("--management-token"));
        assert!(mend(StatusCode::FORBIDDEN).contains("--agent-addr-allow"));
    }
}
