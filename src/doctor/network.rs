//! The balancer's addresses, and StatsD: who answers there, and whether the token is accepted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::future::{OptionFuture, join_all};
use http::StatusCode;
use reqwest::{Client, redirect};
use serde::Deserialize;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::timeout;

use super::DoctorConfig;
use super::report::Check;
use super::skew::Skews;
use super::work::Work;
use crate::agent::{Imds, ReadError, cause, read_body};
use crate::config::{HostPort, Secret};
use crate::metrics::cloudwatch::PutsSnapshot;
use crate::metrics::{Label, Outcome};

/// To find the addresses of a name.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// To connect to a balancer, which may be on the other side of a network.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// From a question to the last byte of its answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The longest answer: the state of a large fleet.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Whoever refuses a datagram on this machine or the next does so within moments.
const REFUSAL_MAX: Duration = Duration::from_millis(300);

/// What was found.
pub(super) struct Found {
    pub(super) checks: Vec<Check>,
    /// How publishing to CloudWatch goes, by the first balancer that tells.
    pub(super) puts: Option<PutsSnapshot>,
    /// What balancers work on.
    pub(super) work: Work,
}

pub(super) async fn look(config: &DoctorConfig, skews: &Skews) -> Found {
    let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).connect_timeout(CONNECT_MAX);
    let client = match client.timeout(ANSWER_MAX).build() {
        Ok(client) => client,
        Err(error) => {
            let check = Check::told("proxy", "", super::Verdict::Fail, format!("no HTTP client ({error})"));
            let mut work = Work::default();
            config.management.iter().for_each(|address| work.untold(&address.to_string()));
            return Found { checks: vec![check], puts: None, work };
        }
    };
    let proxy = config.proxy.as_ref().map(|address| proxy(&client, address, config.tls.is_some()));
    let managements =
        config.management.iter().map(|address| management(&client, address, config.token.as_ref(), skews));
    let statsd = config.statsd.as_ref().map(statsd);
    let (proxy, managements, statsd) =
        tokio::join!(OptionFuture::from(proxy), join_all(managements), OptionFuture::from(statsd));
    let mut found = Found { checks: proxy.into_iter().collect(), puts: None, work: Work::default() };
    for (address, (checks, state)) in config.management.iter().zip(managements) {
        found.checks.extend(checks);
        match state {
            Some(state) => {
                found.work.told(state.groups());
                found.puts = found.puts.or(state.cloudwatch);
            }
            None => found.work.untold(&address.to_string()),
        }
    }
    if config.management.is_empty() {
        found.checks.push(Check::skip(
            "management",
            "",
            "no --management-addr is given: no balancer is asked",
        ));
    }
    found.checks.extend(statsd);
    found
}

/// An answer.
struct Answer {
    status: StatusCode,
    date: Option<String>,
    /// Whether it has an `x-request-id`, as all of the proxy's answers have.
    has_request_id: bool,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// How the proxy refuses, if it is Paddock's and does: the code.
    fn refusal(&self) -> Option<Outcome> {
        #[derive(Deserialize)]
        struct Outer {
            error: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            code: String,
        }
        let code = serde_json::from_slice::<Outer>(&self.body).ok()?.error.code;
        let known = Outcome::ALL.iter().copied().find(|outcome| outcome.value() == code);
        known.filter(|_| self.has_request_id)
    }
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    Unknown(String),
    #[error("cannot connect ({0})")]
    Unreachable(String),
    #[error("it did not let itself be connected to within {} s", CONNECT_MAX.as_secs())]
    Filtered,
    #[error("it took the connection, and did not answer within {} s", ANSWER_MAX.as_secs())]
    Late,
    #[error("its answer broke off ({0})")]
    Broken(String),
}

impl AskError {
    fn mend(&self, flag: &str) -> String {
        match self {
            Self::Unknown(_) => format!("mend {flag}, or the name's entry in the DNS"),
            Self::Unreachable(_) => {
                format!(
                    "start the balancer, or mend {flag}; look whether it listens on an address that is reached from here"
                )
            }
            Self::Filtered => {
                format!(
                    "open the port in the security group or firewall between here and there, or mend {flag}"
                )
            }
            Self::Late | Self::Broken(_) => {
                format!(
                    "look at the log of whatever has this port: it hangs, or is no Paddock; or mend {flag}"
                )
            }
        }
    }
}

async fn ask(client: &Client, at: &str, path: &str, token: Option<&Secret>) -> Result<Answer, AskError> {
    let mut request = client.get(format!("http://{at}{path}"));
    if let Some(token) = token {
        request = request.bearer_auth(token.clone().into_exposed());
    }
    let failed = |error: &reqwest::Error| match (error.is_connect(), error.is_timeout()) {
        (true, true) => AskError::Filtered,
        (true, false) => AskError::Unreachable(cause(error)),
        (false, true) => AskError::Late,
        (false, false) => AskError::Broken(cause(error)),
    };
    let response = request.send().await.map_err(|error| failed(&error))?;
    let status = response.status();
    let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
    let has_request_id = response.headers().contains_key("x-request-id");
    let body = read_body(response, ANSWER_BYTES_MAX).await.map_err(|error| match error {
        ReadError::TooLong => AskError::Broken(format!("more than {ANSWER_BYTES_MAX} bytes")),
        ReadError::Broken(error) => failed(&error),
    })?;
    Ok(Answer { status, date, has_request_id, body })
}

/// The address as it is to be asked for.
///
/// 1. Where the metadata stands for the host, they tell it.
/// 2. Names are looked up: a name that nobody knows is told from a host that is silent.
/// 3. Whoever listens on all addresses is asked on this machine's own.
async fn place(address: &HostPort) -> Result<String, AskError> {
    let located = Imds::from_environment().locate(address).await;
    let located = located.map_err(|error| AskError::Unknown(error.to_string()))?.into_string();
    let looked_up = timeout(RESOLVE_MAX, lookup_host(located.clone())).await;
    let looked_up = looked_up.map_err(|_| {
        AskError::Unknown(format!("the name was not found within {} s", RESOLVE_MAX.as_secs()))
    })?;
    let unknown = |error: io::Error| AskError::Unknown(format!("the name is not known ({error})"));
    let first = looked_up.map_err(unknown)?.min_by_key(SocketAddr::is_ipv6);
    Ok(match first {
        Some(first) if first.ip().is_unspecified() => {
            let own = if first.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            SocketAddr::new(own, first.port()).to_string()
        }
        Some(_) => located,
        None => return Err(AskError::Unknown("the name has no address".to_owned())),
    })
}

async fn ask_at(
    client: &Client,
    address: &HostPort,
    path: &str,
    token: Option<&Secret>,
) -> Result<Answer, AskError> {
    ask(client, &place(address).await?, path, token).await
}

async fn proxy(client: &Client, address: &HostPort, is_secure: bool) -> Check {
    judge_proxy(&address.to_string(), &ask_at(client, address, "/health", None).await, is_secure)
}

/// The proxy's `/health` names what waits, and its refusals have a code of its own; llama-server's do not.
fn judge_proxy(subject: &str, answer: &Result<Answer, AskError>, is_secure: bool) -> Check {
    const NAME: &str = "proxy";
    const FLAG: &str = "--reverseproxy-addr";
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Check::fail(NAME, subject, error.to_string(), error.mend(FLAG)),
    };
    if let Some(code) = answer.refusal() {
        return judge_refusal(NAME, subject, code);
    }
    let speaks_tls = answer.status == StatusCode::BAD_REQUEST && answer.text().contains("speaks TLS");
    let is_ours = answer.status == StatusCode::OK && answer.text().contains("\"requests_buffered\"");
    match (is_ours, speaks_tls, is_secure) {
        (true, _, false) => Check::ok(NAME, subject, "answers /health"),
        (true, _, true) => Check::warn(
            NAME,
            subject,
            "answers /health in the clear, though a certificate is given",
            "start the balancer with the same --tls-cert and --tls-key",
        ),
        (false, true, _) => Check::ok(NAME, subject, "answers, and speaks TLS"),
        (false, false, _) => Check::fail(
            NAME,
            subject,
            format!("answers /health with {}, but not as Paddock does", answer.status.as_u16()),
            format!("another program has this port: end it, or mend {FLAG}"),
        ),
    }
}

/// It is Paddock, and has no time for this machine.
fn judge_refusal(name: &'static str, subject: &str, code: Outcome) -> Check {
    if code == Outcome::TooManyConnections {
        let found = "Paddock refuses: too many connections from here";
        let mend = "end some of them, or raise the balancer's --max-connections-per-client";
        return Check::warn(name, subject, found, mend);
    }
    let found = format!("Paddock refuses: {}", code.value());
    Check::warn(name, subject, found, "look at the balancer's log, and run this again")
}

/// What is read of `/api/v1/state`; of any version.
#[derive(Debug, Deserialize)]
struct State {
    version: String,
    #[serde(default)]
    agents: Vec<Agent>,
    #[serde(default)]
    pools: Vec<Pool>,
    #[serde(default)]
    cloudwatch: Option<PutsSnapshot>,
}

impl State {
    /// What the groups are called that it works on.
    fn groups(&self) -> impl Iterator<Item = String> {
        self.pools.iter().flat_map(|pool| &pool.groups).filter_map(|group| group.name.clone())
    }
}

#[derive(Debug, Deserialize)]
struct Pool {
    #[serde(default)]
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Agent {
    agent_name: Option<String>,
    agent_id: String,
    error: Option<String>,
    is_authorized: Option<bool>,
    is_slots_endpoint_enabled: Option<bool>,
    #[serde(default)]
    slots_total: u32,
}

async fn management(
    client: &Client,
    address: &HostPort,
    token: Option<&Secret>,
    skews: &Skews,
) -> (Vec<Check>, Option<State>) {
    const STATE: &str = "/api/v1/state";
    let subject = address.to_string();
    let at = match place(address).await {
        Ok(at) => at,
        Err(error) => return (vec![judge_management(&subject, &Err(error))], None),
    };
    let health = ask(client, &at, "/health", None).await;
    if let Ok(answer) = &health {
        skews.note(&subject, answer.date.as_deref());
    }
    let mut checks = vec![judge_management(&subject, &health)];
    if !health.is_ok_and(|answer| answer.status == StatusCode::OK) {
        return (checks, None);
    }
    let told = ask(client, &at, STATE, token).await;
    let is_open = match token {
        Some(_) => ask(client, &at, STATE, None).await.is_ok_and(|open| open.status == StatusCode::OK),
        None => false,
    };
    let state: Option<State> =
        told.as_ref().ok().and_then(|answer| serde_json::from_slice(&answer.body).ok());
    checks.push(judge_token(&subject, &told, state.as_ref(), token.is_some(), is_open));
    checks.extend(state.as_ref().map(|state| judge_agents(&subject, &state.agents)));
    (checks, state)
}

fn judge_management(subject: &str, answer: &Result<Answer, AskError>) -> Check {
    const NAME: &str = "management";
    const FLAG: &str = "--management-addr";
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Check::ok(NAME, subject, "answers /health"),
        Ok(answer) => Check::fail(
            NAME,
            subject,
            format!(
                "answers /health with {}: this is no management address of Paddock",
                answer.status.as_u16()
            ),
            format!("end the program that has this port, or mend {FLAG}"),
        ),
        Err(error) => Check::fail(NAME, subject, error.to_string(), error.mend(FLAG)),
    }
}

/// 1. No answer, a refusal, and an answer that is not Paddock's.
/// 2. A state that is told: to everybody, though there is a token; by another version; as it should be.
fn judge_token(
    subject: &str,
    told: &Result<Answer, AskError>,
    state: Option<&State>,
    has_token: bool,
    is_open: bool,
) -> Check {
    const NAME: &str = "token";
    let fail = |found: &str, mend: &str| Check::fail(NAME, subject, found, mend);
    let answer = match told {
        Ok(answer) => answer,
        Err(error) => return fail(&error.to_string(), &error.mend("--management-addr")),
    };
    let state = match (answer.status, state) {
        (StatusCode::OK, Some(state)) => state,
        (StatusCode::UNAUTHORIZED, _) if has_token => {
            return fail(
                "the token is refused (401)",
                "give the one that the balancer was started with, in --management-token-file",
            );
        }
        (StatusCode::UNAUTHORIZED, _) => {
            return fail("a token is wanted (401), and none is given", "give --management-token-file");
        }
        (StatusCode::FORBIDDEN, _) => {
            return fail(
                "it does not serve this name without a token (403)",
                "write its IP address, or start the balancer with --management-token-file",
            );
        }
        (status, _) => {
            return fail(
                &format!(
                    "answers /api/v1/state with {}: llama.cpp, Paddler 1.x or an older Paddock",
                    status.as_u16()
                ),
                "give the management address of a balancer of this version, or upgrade that one",
            );
        }
    };
    if is_open {
        let mend = "start the balancer with the same --management-token-file, or leave the token out";
        return Check::warn(NAME, subject, "everybody is served there, without the token too", mend);
    }
    let own = env!("CARGO_PKG_VERSION");
    if state.version != own {
        let found = format!("it is Paddock {}, and this is {own}", state.version);
        return Check::warn(NAME, subject, found, "run the same version everywhere");
    }
    let access = if has_token { "the token is accepted" } else { "no token is wanted" };
    Check::ok(NAME, subject, format!("Paddock {own}; {access}"))
}

/// The first that is not well is named.
fn judge_agents(subject: &str, agents: &[Agent]) -> Check {
    const NAME: &str = "agents";
    let slots: u32 = agents.iter().map(|agent| agent.slots_total).sum();
    let ill = agents.iter().find_map(|agent| {
        let (what, mend) = match agent {
            Agent { is_authorized: Some(false), .. } => {
                ("llama.cpp refuses its key", "give the agent --llamacpp-api-key")
            }
            Agent { is_slots_endpoint_enabled: Some(false), .. } => {
                ("llama.cpp's /slots is off", "start llama-server with --slots")
            }
            Agent { error: Some(error), .. } => (error.as_str(), "run paddock doctor on its machine"),
            Agent { .. } => return None,
        };
        Some((agent.agent_name.as_deref().unwrap_or(&agent.agent_id), what, mend))
    });
    let count = match agents.len() {
        0 => return Check::ok(NAME, subject, "none is registered"),
        1 => format!("1 is registered, with {slots} slots"),
        several => format!("{several} are registered, with {slots} slots"),
    };
    match ill {
        None => Check::ok(NAME, subject, count),
        Some((name, what, mend)) => Check::warn(NAME, subject, format!("{count}; {name}: {what}"), mend),
    }
}

/// UDP tells only that nobody is there, and only sometimes. An empty datagram is no metric.
async fn statsd(address: &HostPort) -> Check {
    const NAME: &str = "statsd";
    let subject = address.to_string();
    let refused = async {
        let at = place(address).await?;
        let failed = |error: io::Error| AskError::Unreachable(error.to_string());
        let own = if at.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(own).await.map_err(failed)?;
        socket.connect(at).await.map_err(failed)?;
        socket.send(&[]).await.map_err(failed)?;
        match timeout(REFUSAL_MAX, socket.recv(&mut [0])).await {
            Ok(Err(error)) => Err(failed(error)),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    };
    match refused.await {
        Ok(()) => Check::ok(NAME, &subject, "nobody refuses what is sent there, which is all that UDP tells"),
        Err(AskError::Unknown(why)) => {
            Check::fail(NAME, &subject, why, "mend --statsd-addr, or the name's entry in the DNS")
        }
        Err(error) => {
            Check::warn(NAME, &subject, error.to_string(), "start the StatsD server, or mend --statsd-addr")
        }
    }
}

#[cfg(test)]
mod tests;
