//! Asks one llama.cpp server how it is.

use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use thiserror::Error;

use super::{ReadError, cause, read_body, words};
use crate::protocol::{Phase, SLOTS_MAX, SlotStatus};

/// To connect: the server is on this machine or on the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// From the question to the last byte of the answer. `/slots` waits for the batch that is being computed, which
/// may take seconds on a CPU; `/health` and `/props` answer at once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The longest answer that is read: `/props` holds a chat template, `/slots` may hold each prompt's parameters.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How the server was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Where in its start.
    pub phase: Phase,
    /// Whether anything answered, whatever it said.
    pub has_answered: bool,
    /// Its slots; none unless [`Phase::Ready`].
    pub slots: Vec<SlotStatus>,
    /// Whether it accepted the key; none where it did not say.
    pub is_authorized: Option<bool>,
    /// Whether `/slots` is on; none where it did not say.
    pub is_slots_endpoint_enabled: Option<bool>,
    /// What is wrong, in words.
    pub error: Option<String>,
}

impl Probe {
    fn ready(slots: Vec<SlotStatus>) -> Self {
        Self {
            slots,
            is_authorized: Some(true),
            is_slots_endpoint_enabled: Some(true),
            ..Self::without_slots(Phase::Ready, None)
        }
    }

    fn without_slots(phase: Phase, error: Option<String>) -> Self {
        let (is_authorized, is_slots_endpoint_enabled) = (None, None);
        Self { phase, has_answered: true, slots: Vec::new(), is_authorized, is_slots_endpoint_enabled, error }
    }

    fn without_answer(phase: Phase, error: &AskError) -> Self {
        Self { has_answered: false, ..Self::without_slots(phase, Some(error.to_string())) }
    }
}

/// Why a question got no usable answer.
#[derive(Debug, Error)]
enum AskError {
    #[error("cannot connect to llama.cpp at {address}: {cause}")]
    Unreachable { address: String, cause: String },
    #[error("llama.cpp at {address} did not answer {path} within {}", words(ANSWER_TIMEOUT))]
    Late { address: String, path: &'static str },
    #[error("llama.cpp at {address} broke off its answer to {path}: {cause}")]
    Broken { address: String, path: &'static str, cause: String },
    #[error("llama.cpp at {address} answered {path} with more than {ANSWER_BYTES_MAX} bytes")]
    TooLong { address: String, path: &'static str },
}

/// The part of `/props` that matters here.
#[derive(Deserialize)]
struct Props {
    is_sleeping: Option<bool>,
    total_slots: Option<u32>,
}

/// One llama.cpp server.
pub struct Server {
    client: Client,
    address: String,
    api_key: Option<String>,
    /// Whether this llama.cpp knows sleep (`is_sleeping` in `/props`); not known before it was asked.
    may_sleep: Option<bool>,
}

impl Server {
    /// The server at `address` (`host:port`). Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// When the system gives no HTTP client.
    pub fn new(address: String, api_key: Option<String>) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .http1_only()
            // llama.cpp keeps a thread for each open connection, and closes idle ones by itself.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        Ok(Self { client, address, api_key, may_sleep: None })
    }

    /// Asks `/health`, and the slots only of a healthy server.
    pub async fn probe(&mut self) -> Probe {
        let probe = match self.ask("/health").await {
            Ok((StatusCode::OK, _)) => return self.probe_slots().await,
            Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => Probe::without_slots(Phase::Loading, None),
            Ok((status, _)) => Probe::without_slots(Phase::Failing, Some(self.unexpected("/health", status))),
            Err(error @ AskError::Unreachable { .. }) => Probe::without_answer(Phase::Starting, &error),
            Err(error @ (AskError::Late { .. } | AskError::Broken { .. })) => {
                Probe::without_answer(Phase::Failing, &error)
            }
            Err(error @ AskError::TooLong { .. }) => {
                Probe::without_slots(Phase::Failing, Some(error.to_string()))
            }
        };
        // The next healthy server may be another one.
        self.may_sleep = None;
        probe
    }

    /// The slots of a healthy server. One that sleeps is not asked for them: `/slots` would wake it.
    async fn probe_slots(&mut self) -> Probe {
        if self.may_sleep != Some(false)
            && let Some(slots_total) = self.asleep().await
        {
            let idle = |id| SlotStatus { id, is_processing: false };
            return Probe::ready((0..i64::from(slots_total)).map(idle).collect());
        }
        let (status, body) = match self.ask("/slots").await {
            Ok(answer) => answer,
            Err(error) => return Probe::without_slots(Phase::Failing, Some(error.to_string())),
        };
        let failing = Probe::without_slots(Phase::Failing, None);
        match status {
            StatusCode::OK => match serde_json::from_slice::<Vec<SlotStatus>>(&body) {
                Ok(mut slots) => {
                    slots.truncate(SLOTS_MAX as usize);
                    Probe::ready(slots)
                }
                Err(error) => Probe {
                    error: Some(format!(
                        "llama.cpp at {} answered /slots without a list: {error}",
                        self.address
                    )),
                    ..failing
                },
            },
            StatusCode::UNAUTHORIZED => Probe { is_authorized: Some(false), ..failing },
            StatusCode::NOT_IMPLEMENTED => Probe { is_slots_endpoint_enabled: Some(false), ..failing },
            status => Probe { error: Some(self.unexpected("/slots", status)), ..failing },
        }
    }

    /// How many slots a sleeping server has; none when it is awake or does not say.
    async fn asleep(&mut self) -> Option<u32> {
        let (status, body) = self.ask("/props").await.ok()?;
        let props = if status == StatusCode::OK { serde_json::from_slice::<Props>(&body).ok() } else { None };
        self.may_sleep = Some(props.as_ref().is_some_and(|props| props.is_sleeping.is_some()));
        let props = props.filter(|props| props.is_sleeping == Some(true))?;
        // Every server has a slot, also one that does not say how many.
        Some(props.total_slots.unwrap_or(1).min(SLOTS_MAX))
    }

    async fn ask(&self, path: &'static str) -> Result<(StatusCode, Vec<u8>), AskError> {
        let mut request = self.client.get(format!("http://{}{path}", self.address));
        if let Some(key) = &self.api_key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| self.failure(path, &error))?;
        let status = response.status();
        let body = read_body(response, ANSWER_BYTES_MAX).await.map_err(|error| match error {
            ReadError::TooLong => AskError::TooLong { address: self.address.clone(), path },
            ReadError::Broken(error) => self.failure(path, &error),
        })?;
        Ok((status, body))
    }

    fn failure(&self, path: &'static str, error: &reqwest::Error) -> AskError {
        let address = self.address.clone();
        if error.is_connect() || error.is_builder() {
            AskError::Unreachable { address, cause: cause(error) }
        } else if error.is_timeout() {
            AskError::Late { address, path }
        } else {
            AskError::Broken { address, path, cause: cause(error) }
        }
    }

    fn unexpected(&self, path: &str, status: StatusCode) -> String {
        format!(
            "llama.cpp at {} answered {path} with status {}: is this llama-server?",
            self.address,
            status.as_u16()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Body;
    use axum::extract::{Request, State};
    use axum::http::header::AUTHORIZATION;
    use axum::response::Response;
    use bytes::Bytes;
    use tokio::net::TcpListener;

    use super::*;

    const TWO_SLOTS: &str = r#"[{"id":0,"n_ctx":64,"is_processing":false},{"id":1,"is_processing":true,"params":{"prompt":"x"}}]"#;

    /// A server that answers by the book that it is given, and remembers what it was asked.
    #[derive(Clone)]
    struct Fake {
        answers: Arc<Mutex<Vec<Answer>>>,
        asked: Arc<Mutex<Vec<Asked>>>,
    }

    type Answer = (&'static str, u16, Bytes);
    /// A path and the key that came with it.
    type Asked = (String, Option<String>);

    impl Fake {
        async fn start(answers: &[(&'static str, u16, &str)]) -> (Self, String) {
            let fake = Self { answers: Arc::default(), asked: Arc::default() };
            fake.set(answers);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let router = Router::new().fallback(answer).with_state(fake.clone());
            tokio::spawn(async { axum::serve(listener, router).await });
            (fake, address)
        }

        fn set(&self, answers: &[(&'static str, u16, &str)]) {
            *self.answers.lock().unwrap() = answers
                .iter()
                .map(|(path, status, body)| (*path, *status, Bytes::copy_from_slice(body.as_bytes())))
                .collect();
        }

        fn paths(&self) -> Vec<String> {
            self.asked.lock().unwrap().drain(..).map(|(path, _)| path).collect()
        }
    }

    async fn answer(State(fake): State<Fake>, request: Request) -> Response {
        let path = request.uri().path().to_owned();
        let key = request.headers().get(AUTHORIZATION).map(|key| key.to_str().unwrap().to_owned());
        fake.asked.lock().unwrap().push((path.clone(), key));
        let answers = fake.answers.lock().unwrap();
        let (status, body) = answers
            .iter()
            .find(|(known, ..)| *known == path)
            .map_or((404, Bytes::new()), |a| (a.1, a.2.clone()));
        Response::builder().status(status).body(Body::from(body)).unwrap()
    }

    async fn probe_of_slots(status: u16, body: &str) -> Probe {
        let (_fake, address) = Fake::start(&[("/health", 200, ""), ("/slots", status, body)]).await;
        Server::new(address, None).unwrap().probe().await
    }

    fn facts(probe: &Probe) -> (Phase, Option<bool>, Option<bool>) {
        (probe.phase, probe.is_authorized, probe.is_slots_endpoint_enabled)
    }

    #[tokio::test]
    async fn slots_200_with_a_list() {
        let probe = probe_of_slots(200, TWO_SLOTS).await;
        assert_eq!(facts(&probe), (Phase::Ready, Some(true), Some(true)));
        assert_eq!(probe.error, None);
        assert_eq!(
            probe.slots.iter().map(|slot| (slot.id, slot.is_processing)).collect::<Vec<_>>(),
            [(0, false), (1, true)]
        );
    }

    #[tokio::test]
    async fn slots_refused() {
        let probe = probe_of_slots(401, "{}").await;
        assert_eq!((facts(&probe), probe.error), ((Phase::Failing, Some(false), None), None));
        let probe = probe_of_slots(501, "{}").await;
        assert_eq!((facts(&probe), probe.error), ((Phase::Failing, None, Some(false)), None));
        let probe = probe_of_slots(418, "{}").await;
        assert_eq!(facts(&probe), (Phase::Failing, None, None));
        assert!(probe.error.unwrap().contains("/slots with status 418"));
    }

    #[tokio::test]
    async fn slots_that_are_not_a_list() {
        for body in ["{}", "nonsense", "", r#"[{"id":0}]"#] {
            let probe = probe_of_slots(200, body).await;
            assert_eq!(facts(&probe), (Phase::Failing, None, None), "{body}");
            assert!(probe.error.unwrap().contains("/slots without a list"), "{body}");
        }
    }

    #[tokio::test]
    async fn nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let probe = Server::new(address.clone(), None).unwrap().probe().await;
        assert_eq!(facts(&probe), (Phase::Starting, None, None));
        let error = probe.error.unwrap();
        assert!(error.contains(&address) && error.contains("refused"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_none() {
        let probe = Server::new("no such:address".to_owned(), None).unwrap().probe().await;
        assert_eq!(facts(&probe), (Phase::Starting, None, None));
        assert!(probe.error.unwrap().contains("cannot connect to llama.cpp at no such:address"));
    }

    #[tokio::test]
    async fn a_server_that_loads_is_asked_for_its_health_alone() {
        let (fake, address) = Fake::start(&[("/health", 503, "{}"), ("/slots", 200, TWO_SLOTS)]).await;
        let probe = Server::new(address, None).unwrap().probe().await;
        assert_eq!((facts(&probe), probe.error), ((Phase::Loading, None, None), None));
        assert_eq!(fake.paths(), ["/health"]);
    }

    #[tokio::test]
    async fn something_else_on_the_port() {
        let (_fake, address) = Fake::start(&[("/slots", 200, TWO_SLOTS)]).await;
        let probe = Server::new(address, None).unwrap().probe().await;
        assert_eq!(facts(&probe), (Phase::Failing, None, None));
        assert!(probe.error.unwrap().contains("/health with status 404"));
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut() {
        let probe = probe_of_slots(200, &" ".repeat(ANSWER_BYTES_MAX + 1)).await;
        assert_eq!(facts(&probe), (Phase::Failing, None, None));
        assert!(probe.error.unwrap().contains("more than"));
        let probe = probe_of_slots(200, &format!("{TWO_SLOTS}{}", " ".repeat(ANSWER_BYTES_MAX / 2))).await;
        assert_eq!(probe.phase, Phase::Ready);
    }

    /// The listener takes the connection but nobody answers.
    #[tokio::test]
    async fn a_server_that_hangs_is_failing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let probe = Server::new(address, None).unwrap().probe().await;
        assert_eq!(facts(&probe), (Phase::Failing, None, None));
        assert!(probe.error.unwrap().contains("did not answer /health within 3s"));
    }

    #[tokio::test]
    async fn the_key_goes_along() {
        let (fake, address) = Fake::start(&[("/health", 200, ""), ("/slots", 200, TWO_SLOTS)]).await;
        Server::new(address, Some("sesame".to_owned())).unwrap().probe().await;
        let asked = fake.asked.lock().unwrap();
        assert!(asked.contains(&("/slots".to_owned(), Some("Bearer sesame".to_owned()))), "{asked:?}");
    }

    #[tokio::test]
    async fn a_sleeping_server_is_not_woken() {
        let health = ("/health", 200, "");
        let slots = ("/slots", 200, TWO_SLOTS);
        let asleep = ("/props", 200, r#"{"is_sleeping":true,"total_slots":3}"#);
        let (fake, address) = Fake::start(&[health, slots, asleep]).await;
        let mut server = Server::new(address, None).unwrap();
        let probe = server.probe().await;
        assert_eq!(facts(&probe), (Phase::Ready, Some(true), Some(true)));
        assert_eq!(probe.slots.len(), 3);
        assert!(probe.slots.iter().all(|slot| !slot.is_processing));
        assert_eq!(fake.paths(), ["/health", "/props"]);

        fake.set(&[health, slots, ("/props", 200, r#"{"is_sleeping":false,"total_slots":3}"#)]);
        assert_eq!(server.probe().await.slots.len(), 2);
        assert_eq!(fake.paths(), ["/health", "/props", "/slots"]);
        fake.set(&[health, slots, asleep]);
        assert_eq!(server.probe().await.slots.len(), 3);
    }

    #[tokio::test]
    async fn a_server_that_knows_no_sleep_is_asked_once() {
        let health = ("/health", 200, "");
        let slots = ("/slots", 200, TWO_SLOTS);
        let (fake, address) = Fake::start(&[health, slots, ("/props", 200, r#"{"total_slots":2}"#)]).await;
        let mut server = Server::new(address, None).unwrap();
        server.probe().await;
        assert_eq!(fake.paths(), ["/health", "/props", "/slots"]);
        server.probe().await;
        assert_eq!(fake.paths(), ["/health", "/slots"]);

        // It was started anew, perhaps as another version.
        fake.set(&[("/health", 503, "")]);
        server.probe().await;
        fake.set(&[health, ("/props", 200, r#"{"is_sleeping":true}"#)]);
        assert_eq!(server.probe().await.slots.len(), 1);
    }
}
