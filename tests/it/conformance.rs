//! Raw bytes against the gateway: whatever is malformed or can be read in two ways (RFC 9112 section 11.2) is refused, or
//! reaches the server in one clear form. After each row a clean request must arrive as it is.

mod case;
mod client;
mod fields;
mod frames;
mod framing;
mod h2;
mod paths;
mod reading;
mod recorder;
mod sizes;
mod targets;

use std::collections::BTreeSet;

use tokio::net::TcpStream;

use self::case::{Case, case};
use self::client::Client;
use self::reading::Request;
use self::recorder::Recorder;
use crate::support::folder::Folder;
use crate::support::gateway::{Gateway, GatewayConfig, until_at_rest};
use crate::support::tls::{Identity, TlsClient};

/// The longest body here, in bytes: longer ones are quickly written.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// So many rows that went wrong are told of.
const WRONG_MAX: usize = 12;

/// How the bytes travel.
#[derive(Debug, Clone, Copy)]
enum Transport {
    Tcp,
    /// With the protocol that is agreed on.
    Tls(&'static str),
}

/// A gateway in front of one server that keeps what it is sent.
struct World {
    gateway: Gateway,
    recorder: Recorder,
    /// None without TLS.
    tls: Option<TlsClient>,
}

impl World {
    async fn start(transport: Transport) -> Self {
        let mut config = GatewayConfig::default();
        config.proxy.worker_threads = 1;
        config.proxy.limits.body_bytes_max = BODY_BYTES_MAX;
        let tls = match transport {
            Transport::Tcp => None,
            Transport::Tls(protocol) => {
                let identity = Identity::new();
                config.proxy.tls = Some(identity.server(&Folder::new()));
                Some(identity.client(&[protocol]))
            }
        };
        let recorder = Recorder::start().await;
        let gateway = Gateway::start(config);
        gateway.attach("a", recorder.addr(), 4);
        Self { gateway, recorder, tls }
    }

    async fn connect(&self) -> Client {
        match &self.tls {
            Some(tls) => Client::new(tls.connect(self.gateway.addr()).await),
            None => {
                let stream = TcpStream::connect(self.gateway.addr()).await.unwrap();
                stream.set_nodelay(true).unwrap();
                Client::new(stream)
            }
        }
    }

    /// Plays all rows, each on a connection of its own, and tells of what went wrong.
    async fn play(&self, cases: impl IntoIterator<Item = Case>) {
        let mut wrong = Vec::new();
        for case in cases {
            if let Err(why) = self.row(&case).await {
                wrong.push(format!("{}: {why}", case.name));
            }
            // What went wrong took its time.
            if wrong.len() == WRONG_MAX {
                break;
            }
        }
        until_at_rest(&self.gateway).await;
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    async fn row(&self, case: &Case) -> Result<(), String> {
        let mut client = self.connect().await;
        client.send(&case.sent).await;
        if case.finishes {
            client.finish().await;
        }
        let mut answers = Vec::new();
        let mut end = None;
        while answers.len() < case.answers.len() && end.is_none() {
            match client.status().await {
                Ok(status) => answers.push(status),
                Err(why) => end = Some(why),
            }
        }
        // What reached the server before the canaries do.
        let passed = self.recorder.take();
        let mut found = Vec::new();
        if answers != case.answers {
            found.push(format!("answers {answers:?}, then {end:?}"));
        }
        if let Err(why) = self.reached(&passed, &case.passed) {
            found.push(why);
        }
        if case.closes && !client.is_closed().await {
            found.push("it goes on".to_owned());
        }
        if !case.closes
            && answers == case.answers
            && let Err(why) = self.canary(&mut client).await
        {
            found.push(format!("a canary on the same connection: {why}"));
        }
        if let Err(why) = self.canary(&mut self.connect().await).await {
            found.push(format!("a canary: {why}"));
        }
        if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
    }

    /// A clean request, which must be answered and reach the server as it is, alone.
    async fn canary(&self, client: &mut Client) -> Result<(), String> {
        client.send(b"GET /canary HTTP/1.1\r\nHost: canary\r\nX-Request-Id: canary\r\n\r\n").await;
        let status = client.status().await;
        if status != Ok(200) {
            return Err(format!("answered {status:?}"));
        }
        let canary = case("", "").passes("GET /canary", &["host: canary", "x-request-id: canary"], "");
        self.reached(&self.recorder.take(), &canary.passed)
    }

    /// Whether these bytes are exactly the requests that were expected, each in one clear form.
    fn reached(&self, bytes: &[u8], expected: &[Request]) -> Result<(), String> {
        let found: Vec<Request> = reading::read_all(bytes)?.into_iter().map(Request::in_order).collect();
        let expected: Vec<Request> = expected.iter().map(|request| self.completed(request)).collect();
        if found == expected {
            return Ok(());
        }
        Err(format!("the server got {}, expected {}", short(&found), short(&expected)))
    }

    /// With what the gateway adds to every request.
    fn completed(&self, request: &Request) -> Request {
        let mut request = request.clone();
        let has = |name: &str| request.fields.iter().any(|field| field.starts_with(name));
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut added = vec!["x-forwarded-for: 127.0.0.1".to_owned(), format!("x-forwarded-proto: {scheme}")];
        if !has("host: ") {
            added.push("host: g".to_owned());
        }
        if !has("x-request-id: ") {
            added.push("x-request-id: made".to_owned());
        }
        added.push("traceparent: made".to_owned());
        let may_lack_length =
            ["GET ", "HEAD ", "OPTIONS "].iter().any(|method| request.line.starts_with(method));
        if !request.body.is_empty() || !may_lack_length {
            added.push(format!("content-length: {}", request.body.len()));
        }
        request.fields.extend(added);
        for field in &mut request.fields {
            if field == "host: SERVER" {
                *field = format!("host: {}", self.recorder.addr());
            }
        }
        request.in_order()
    }
}

impl Request {
    /// The order of different headers means nothing (RFC 9110 section 5.3). Ids that the gateway made are random.
    fn in_order(mut self) -> Self {
        for field in &mut self.fields {
            if field.starts_with("x-request-id: req-") {
                *field = "x-request-id: made".to_owned();
            }
            if field.starts_with("traceparent: 00-") {
                *field = "traceparent: made".to_owned();
            }
        }
        self.fields.sort_by(|a, b| name_of(a).cmp(name_of(b)));
        self
    }
}

/// Long bodies and values make no message clearer.
fn short(requests: &[Request]) -> String {
    format!("{requests:?}").chars().take(2000).collect()
}

fn name_of(field: &str) -> &str {
    field.split(':').next().unwrap_or_default()
}

fn cases() -> impl Iterator<Item = Case> {
    [framing::cases(), targets::cases(), fields::cases(), paths::cases(), sizes::cases()]
        .into_iter()
        .flatten()
}

#[tokio::test]
async fn nothing_ambiguous_passes_over_tcp() {
    World::start(Transport::Tcp).await.play(cases()).await;
}

#[tokio::test]
async fn nothing_ambiguous_passes_over_tls() {
    World::start(Transport::Tls("http/1.1")).await.play(cases()).await;
}

#[test]
fn the_table_is_long_and_each_row_has_its_name() {
    let names: Vec<&str> = cases().map(|case| case.name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a name is there twice");
    assert!(names.len() >= 150, "{} rows", names.len());
}
