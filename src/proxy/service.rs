//! The steps of a request, in their order.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::account::{Account, Meter};
use super::answer::Body;
use super::classify::{self, Dialect, Route};
use super::deadline::wait_max;
use super::error::Refusal;
use super::forward::{self, Outgoing, Sent, TowardServers};
use super::headers::{self, Forwarded};
use super::hold::{self, Budget, Reservation, Unread};
use super::keepalive::{self, Teller};
use super::keys::EVERYBODY;
use super::known::{KNOWN_BYTES_MAX, Known, Question};
use super::room::Room;
use super::tls::Tls;
use super::trace::Trace;
use super::upstream::{self, Connections};
use super::{Limits, ProxyConfig, strict};
use crate::clock::Clock;
use crate::core::{Rejection, RequestId, TenantId};
use crate::gate::{Ask, Gate};
use crate::metrics::Outcome;

/// Bodies over this are looked through off the data thread: a scan takes about a millisecond for each megabyte.
const SCAN_INLINE_MAX: usize = 256 * 1024;

/// What all workers share.
#[derive(Debug)]
pub(super) struct Shared {
    config: ProxyConfig,
    budget: Arc<Budget>,
    room: Arc<Room>,
    known: Known,
    toward: TowardServers,
}

impl Shared {
    pub(super) fn new(config: ProxyConfig, gate: &Gate) -> Self {
        let key = config
            .llamacpp_api_key
            .as_ref()
            .and_then(|key| HeaderValue::try_from(format!("Bearer {key}")).ok());
        let authorization = key.map(|mut key| {
            key.set_sensitive(true);
            key
        });
        let toward = TowardServers { authorization, rewrites_host: config.rewrites_host };
        let room = Arc::new(Room::new(&config.limits, config.trusted_proxies.clone()));
        let budget = Budget::new(config.limits.buffered_bytes_max, gate.instruments().buffered_bytes.clone());
        Self { budget, room, known: Known::default(), toward, config }
    }
}

/// Who calls.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) peer: SocketAddr,
    /// Whether it has more connections than it may.
    is_over: bool,
    forwarded: Forwarded,
}

/// One worker's service.
#[derive(Debug)]
pub(super) struct Service {
    shared: Arc<Shared>,
    gate: Gate,
    clock: Clock,
    connections: Rc<Connections>,
}

impl Service {
    pub(super) fn new(shared: Arc<Shared>, gate: Gate, clock: Clock) -> Rc<Self> {
        let meter = Rc::new(Meter { gate: gate.clone(), clock, logs: shared.config.logs_access });
        Rc::new(Self { connections: Connections::new(meter, shared.config.limits), shared, gate, clock })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.shared.room
    }

    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.shared.config.tls.clone()
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn meter(&self) -> &Rc<Meter> {
        &self.connections.meter
    }

    /// A client, as its connection begins.
    pub(super) fn caller(&self, peer: SocketAddr, is_over: bool) -> Caller {
        let address = peer.ip();
        let is_secure = self.shared.config.tls.is_some();
        let forwarded = Forwarded::new(address, self.shared.room.trusts(address), is_secure);
        Caller { peer, is_over, forwarded }
    }

    /// Looks after the upstream connections, for ever.
    pub(super) fn keep_up(&self) -> impl Future<Output = ()> + use<> {
        upstream::keep_up(self.connections.clone(), self.gate.clone())
    }

    /// Answers a request, whatever it is.
    pub(super) async fn respond(
        self: Rc<Self>,
        request: Request<Incoming>,
        caller: Rc<Caller>,
    ) -> Response<Body> {
        let mut account = self.meter().begin();
        let id = headers::request_id(request.headers());
        let route = classify::route(request.method(), request.uri().path());
        let (parts, body) = request.into_parts();
        // Boxed, because it is handed on often, and waits.
        let mut parts = Box::new(parts);
        let trace = Trace::enter(&mut parts.headers);
        account.head(&parts, &id, trace, (caller.peer.ip(), |proxy| self.room().trusts(proxy)));
        let mut account = Some(account);
        parts.headers.insert(headers::X_REQUEST_ID, id.clone());
        let is_http1 = parts.version < Version::HTTP_2;
        let mut response = match self.steps(route, parts, body, &caller, &mut account).await {
            Ok(response) => {
                if let Some(mut account) = account {
                    account.answers(response.status(), response.headers());
                    account.sized(response.body().size_hint().lower());
                    account.end(Outcome::Own);
                }
                response
            }
            Err(Refused { refusal, closes }) => {
                let refusal = ended(account, refusal, route.dialect());
                tracing::debug!(request = ?id, %refusal, "a request is refused");
                // Its connection may not have heard of the end yet.
                let closes = closes || refusal == Refusal::Rejected(Rejection::ShuttingDown);
                let mut response = refusal.into_response(route.dialect()).map(Body::whole);
                if closes && is_http1 {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        };
        response.headers_mut().insert(headers::X_REQUEST_ID, id);
        response
    }

    /// The way of a request.
    ///
    /// 1. From the head alone: what the gateway answers itself, and what it refuses before the body is read.
    /// 2. The body, whole, within its budgets.
    /// 3. What it takes: how many slots.
    /// 4. A permit: at once, or after a wait in which an instance may start.
    /// 5. The attempts, and the answer's body back.
    ///
    /// Whoever ends the request takes its account.
    async fn steps(
        self: &Rc<Self>,
        route: Route,
        mut parts: Box<Parts>,
        mut body: Incoming,
        caller: &Rc<Caller>,
        account: &mut Option<Account>,
    ) -> Result<Response<Body>, Refused> {
        let (tenant, way) = match self.head(route, &mut parts, !body.is_end_stream(), caller, account) {
            Ok(decided) => decided,
            Err(refusal) => return Err(refuse_early(refusal, &parts, body)),
        };
        let limits = self.limits();
        let mut reservation = match self.reserve(&body) {
            Ok(reservation) => reservation,
            Err(refusal) => return Err(refuse_early(refusal, &parts, body)),
        };
        let bytes = match hold::read(&mut body, &mut reservation, limits).await {
            Ok(bytes) => bytes,
            Err(Unread::Refused(refusal)) => return Err(refuse_midway(refusal, &parts, body)),
            Err(Unread::Broken) => {
                return Err(Refused::closing(Refusal::BadRequest("the request's body is broken")));
            }
            Err(Unread::Left) => {
                // Its client went away, and is counted so, once nothing is held for it any more.
                drop(reservation);
                drop(account.take());
                return Err(Refused::closing(Refusal::BadRequest("the request's body broke off")));
            }
        };
        account.iter_mut().for_each(|account| account.body(bytes.len()));
        let dialect = route.dialect();
        match way {
            Way::Here(response) => Ok(*response),
            Way::Live(question) => {
                let question = question.filter(|_| {
                    self.shared.toward.authorization.is_some() || !headers::bears_key(&parts.headers)
                });
                let outgoing = self.outgoing(parts, bytes, caller);
                Box::pin(self.live(outgoing, dialect, question, account)).await.map_err(Refused::from)
            }
            Way::Waits { slots: slots_of, wait_max } => {
                let (slots, is_stream) = slots_of.demand(&parts, &bytes).await;
                let keepalive = self.shared.config.keepalive;
                let plan = keepalive.plan(route, parts.version, is_stream);
                let mut wanted = Wanted {
                    request: self.gate.number(),
                    ask: Ask { pool: self.shared.config.pool, tenant, slots, wait_max },
                    parts,
                    bytes,
                    reservation,
                    caller: caller.clone(),
                    dialect,
                    account: account.take(),
                };
                let Some(plan) = plan else { return Ok(self.clone().serve(wanted).await?) };
                // What was sent to the client while it waited is not packed.
                wanted.parts.headers.remove(header::ACCEPT_ENCODING);
                let request = wanted.request;
                let was_begun = wanted.account.as_ref().and_then(Account::was_begun);
                let teller = keepalive.tells_status.then(|| Teller { gate: self.gate.clone(), request });
                Ok(keepalive::answer(Box::pin(self.clone().serve(wanted)), plan, teller, was_begun).await?)
            }
        }
    }

    /// A permit, the attempts, and the answer's body back.
    async fn serve(self: Rc<Self>, wanted: Wanted) -> Result<Response<Body>, Refusal> {
        // The reservation comes last, to be dropped first: whoever is counted holds nothing any more.
        let Wanted { request, ask, parts, bytes, caller, dialect, mut account, reservation } = wanted;
        let asked = self.clock.mono();
        let permit = match self.gate.acquire_as(request, ask).await {
            Ok(permit) => permit,
            Err(because) => return Err(ended(account, Refusal::Rejected(because), dialect)),
        };
        let waited = self.clock.mono().since(asked);
        account.iter_mut().for_each(|account| account.waited(waited));
        let outgoing = self.outgoing(parts, bytes, &caller);
        let forwarded = forward::forward(&self.connections, &outgoing, permit, dialect, &mut account).await;
        account.iter_mut().for_each(Account::count_wait);
        let (mut response, sent) = match forwarded {
            Ok(answered) => answered,
            Err(refusal) => return Err(ended(account, refusal, dialect)),
        };
        // From here on the request cannot be sent again, so its body need not be kept.
        drop((outgoing, reservation));
        tell(&mut response, &sent, waited + sent.waited_again);
        if let Some(mut account) = account {
            account.answers(response.status(), response.headers());
            response.body_mut().carry(account);
        }
        Ok(response)
    }

    /// Room for the body, as far as its length is declared.
    fn reserve(&self, body: &Incoming) -> Result<Reservation, Refusal> {
        let bytes_max = self.limits().body_bytes_max;
        let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if declared > bytes_max {
            return Err(Refusal::TooLarge { max: bytes_max });
        }
        self.shared.budget.reserve(declared).ok_or(Refusal::BytesFull)
    }

    /// What the head alone decides.
    fn head(
        &self,
        route: Route,
        parts: &mut Parts,
        has_body: bool,
        caller: &Caller,
        account: &mut Option<Account>,
    ) -> Result<(TenantId, Way), Refusal> {
        if caller.is_over {
            return Err(Refusal::TooManyConnections);
        }
        strict::check(parts)?;
        let tenant = match &self.shared.config.keys {
            Some(keys) => {
                let tenant = keys.admit(route, parts, has_body)?;
                account.iter_mut().for_each(|account| account.tenant(|| keys.name(tenant)));
                tenant
            }
            None => EVERYBODY,
        };
        let way = match route {
            Route::Blocked => return Err(Refusal::Forbidden),
            Route::SlotsEndpoint if !self.shared.config.serves_slots_endpoint => {
                return Err(Refusal::Forbidden);
            }
            Route::Health => Way::Here(Box::new(self.health())),
            Route::Models if is_read(&parts.method) => Way::Live(Some(Question::Models)),
            Route::Props if is_read(&parts.method) => Way::Live(Some(Question::Props)),
            Route::SlotsEndpoint | Route::Models | Route::Props | Route::Live => Way::Live(None),
            Route::Server(_) => Way::Waits { slots: Slots::None, wait_max: wait_max(&parts.headers)? },
            Route::Slot(endpoint) => {
                Way::Waits { slots: Slots::Of(endpoint), wait_max: wait_max(&parts.headers)? }
            }
        };
        if matches!(way, Way::Waits { .. }) && self.gate.is_full() {
            return Err(Refusal::Rejected(self.gate.full_rejection(self.shared.config.pool)));
        }
        Ok((tenant, way))
    }

    /// The request as servers get it.
    fn outgoing(&self, parts: Box<Parts>, body: Bytes, caller: &Caller) -> Outgoing {
        Outgoing::new(parts, body, &caller.forwarded, &self.shared.toward)
    }

    fn health(&self) -> Response<Body> {
        let (leases, queued) = self.gate.in_flight();
        let body =
            format!(r#"{{"status":"ok","requests_buffered":{queued},"requests_processing":{leases}}}"#);
        let mut response = Response::new(Body::whole(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// What neither waits nor wakes: a live instance answers, or what is known of it, or nobody.
    async fn live(
        self: &Rc<Self>,
        outgoing: Outgoing,
        dialect: Dialect,
        question: Option<Question>,
        account: &mut Option<Account>,
    ) -> Result<Response<Body>, Refusal> {
        let Some(upstream) = self.gate.live(self.shared.config.pool) else {
            return match question {
                Some(question) => self
                    .shared
                    .known
                    .response(question)
                    .map(|known| known.map(Body::whole))
                    .ok_or(Refusal::NoServer),
                None => Err(Refusal::NotFound),
            };
        };
        let (mut response, sent) =
            forward::forward_live(&self.connections, &outgoing, &upstream, dialect, account).await?;
        if let Some(agent) = sent.by.label.clone() {
            response.headers_mut().insert(headers::X_AGENT, agent);
        }
        // Read before it is answered with: if it breaks, the client is told by a code, and counted by that.
        if let Some(question) = question
            && response.status() == StatusCode::OK
            && outgoing.is_get()
        {
            response = self.remember(question, response).await?;
        }
        if let Some(mut account) = account.take() {
            account.answers(response.status(), response.headers());
            response.body_mut().carry(account);
        }
        Ok(response)
    }

    async fn remember(
        &self,
        question: Question,
        response: Response<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let is_short =
            response.body().size_hint().upper().is_some_and(|bytes| bytes <= KNOWN_BYTES_MAX as u64);
        // The next client may not know the encoding.
        if !is_short || response.headers().contains_key(header::CONTENT_ENCODING) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let bytes =
            body.collect().await.map_err(|error| Refusal::Upstream(error.to_string().into()))?.to_bytes();
        self.shared.known.remember(question, bytes.clone());
        Ok(Response::from_parts(parts, Body::whole(bytes)))
    }
}

/// Where the head leads.
enum Way {
    /// Answered already.
    Here(Box<Response<Body>>),
    /// To a server that is up, if any.
    Live(Option<Question>),
    /// To a server that may have to start.
    Waits { slots: Slots, wait_max: Option<Duration> },
}

/// A request that was read whole, and needs a server.
struct Wanted {
    request: RequestId,
    ask: Ask,
    parts: Box<Parts>,
    bytes: Bytes,
    reservation: Reservation,
    caller: Rc<Caller>,
    dialect: Dialect,
    account: Option<Account>,
}

/// How many slots a request takes, as far as its head tells.
#[derive(Clone, Copy)]
enum Slots {
    None,
    Of(classify::Endpoint),
}

impl Slots {
    /// How many slots, and whether the answer is to be a stream.
    async fn demand(self, parts: &Parts, body: &Bytes) -> (u32, bool) {
        let endpoint = match self {
            Self::None => return (0, false),
            Self::Of(endpoint) => endpoint,
        };
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if body.len() <= SCAN_INLINE_MAX {
            let demand = classify::demand(endpoint, kind, body);
            return (demand.slots, demand.stream);
        }
        let (kind, body) = (kind.map(str::to_owned), body.clone());
        let scan = move || classify::demand(endpoint, kind.as_deref(), &body);
        // It fails only when the runtime ends.
        let demand = tokio::task::spawn_blocking(scan).await.unwrap_or_default();
        (demand.slots, demand.stream)
    }
}

/// A refusal, and whether the connection ends with it.
struct Refused {
    refusal: Refusal,
    closes: bool,
}

impl Refused {
    fn closing(refusal: Refusal) -> Self {
        Self { refusal, closes: true }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let closes = refusal.doubts_client();
        Self { refusal, closes }
    }
}

/// Refuses a request before its body is read. A client that waits to be asked for it need not send it.
fn refuse_early(refusal: Refusal, parts: &Parts, body: Incoming) -> Refused {
    let waits = parts
        .headers
        .get(header::EXPECT)
        .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits && !body.is_end_stream() {
        return Refused::closing(refusal);
    }
    refuse_midway(refusal, parts, body)
}

/// Refuses a request whose body was not read to its end. The connection is not used again, and the rest of the body is
/// read behind the answer.
fn refuse_midway(refusal: Refusal, parts: &Parts, body: Incoming) -> Refused {
    if body.is_end_stream() {
        return refusal.into();
    }
    if parts.version < Version::HTTP_2 {
        tokio::task::spawn_local(hold::drain(body));
    }
    Refused::closing(refusal)
}

/// Counts a refusal, unless the request was counted already.
fn ended(account: Option<Account>, refusal: Refusal, dialect: Dialect) -> Refusal {
    if let Some(account) = account {
        account.refuse(&refusal, dialect);
    }
    refusal
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// Adds what the gateway knows of the answer.
fn tell(response: &mut Response<Body>, sent: &Sent, waited: Duration) {
    let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.insert(headers::X_QUEUE_MS, HeaderValue::from(waited));
    let cold_start = if sent.is_cold_start { "true" } else { "false" };
    headers.insert(headers::X_COLD_START, HeaderValue::from_static(cold_start));
    if let Some(agent) = sent.by.label.clone() {
        headers.insert(headers::X_AGENT, agent);
    }
}
