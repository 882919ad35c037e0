//! Agents' reports, from the wire to the gate.
//!
//! **Invariant:** whoever was registered here is told to the gate as disconnected, however the stream ends: the
//! registration is a guard. Only the gateway's own end is not told: the agent lives, and goes on to the successor. Here it
//! falls silent, and its last report counts for as long as any silent agent's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::address::{self, AddressError, Rules};
use super::refusal::Refusal;
use super::{Ends, Shared};
use crate::gate::{Gate, Registration};
use crate::protocol::{Frames, StatusUpdate, plain};

/// The longest agent id, in bytes: Paddler's are UUIDs.
const ID_BYTES_MAX: usize = 128;

/// How much of a boot nonce is told apart, in bytes: agents draw 16.
const NONCE_BYTES_MAX: usize = 64;

/// A stream that says nothing for so long is ended. The core counts its agent as gone before this, at four heartbeats
/// of at most 60 s.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(300);

/// `POST /status_update/{agent_id}`: reports, for as long as the agent lives.
pub(super) async fn status_update(
    State(shared): State<Arc<Shared>>,
    Extension(ends): Extension<Ends>,
    id: Result<Path<String>, PathRejection>,
    mut body: Body,
) -> Response {
    let id: Arc<str> = match id {
        Ok(Path(id)) if id.len() <= ID_BYTES_MAX => plain(&id, ID_BYTES_MAX).into(),
        Ok(_) | Err(_) => {
            return bad(&format!("an agent id is text of at most {ID_BYTES_MAX} bytes")).answer(body);
        }
    };
    let mut stream = Stream { shared: &shared, ends, id: &id, address: None, registered: None };
    let end = shared.cancel.run_until_cancelled(stream.read(&mut body)).await.unwrap_or(Ok(()));
    drop(stream);
    match end {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(refusal) => {
            shared.complaints.log(&id, ends.peer, refusal.message());
            refusal.answer(body)
        }
    }
}

fn bad(message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "bad_report", message)
}

/// One connection of one agent.
struct Stream<'a> {
    shared: &'a Shared,
    ends: Ends,
    id: &'a Arc<str>,
    /// What the agent calls its server, and where that is.
    address: Option<(String, SocketAddr)>,
    registered: Option<Registered>,
}

impl Stream<'_> {
    /// Reads to the end of the stream. Its breaking off is an end like any other.
    async fn read(&mut self, body: &mut Body) -> Result<(), Refusal> {
        let mut frames = Frames::default();
        loop {
            let Ok(frame) = tokio::time::timeout(SILENCE_MAX, body.frame()).await else {
                let message = format!("agent {}: no report for {} s", self.id, SILENCE_MAX.as_secs());
                return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "silent", &message));
            };
            let Some(Ok(frame)) = frame else { break };
            let Ok(bytes) = frame.into_data() else { continue };
            frames.push(&bytes);
            while let Some(update) =
                frames.next().map_err(|error| bad(&format!("agent {}: {error}", self.id)))?
            {
                self.take(update).await?;
            }
        }
        match self.registered {
            Some(_) => Ok(()),
            None => Err(bad(&format!("agent {}: the stream ended without a whole report", self.id))),
        }
    }

    /// The address is judged before the agent is let in, so that who is refused disturbs nobody of the same id.
    async fn take(&mut self, update: StatusUpdate) -> Result<(), Refusal> {
        let address = self.address(&update.external_llamacpp_addr).await?;
        let nonce = update.boot_nonce.as_deref().map(|nonce| plain(nonce, NONCE_BYTES_MAX));
        let report = update.into_report(self.shared.config.pool, address);
        if self.registered.as_ref().is_some_and(|registered| registered.nonce != nonce) {
            self.registered = None;
        }
        let registered = self.registered.get_or_insert_with(|| {
            info!(agent = %self.id, name = report.name.as_deref(), %address, "an agent registered");
            self.shared.complaints.forget(self.id);
            Registered::new(self.shared, self.id.clone(), nonce)
        });
        self.shared.gate.report(registered.registration, self.id, report);
        Ok(())
    }

    async fn address(&mut self, text: &str) -> Result<SocketAddr, Refusal> {
        if let Some((known, address)) = &self.address
            && known == text
        {
            return Ok(*address);
        }
        let config = &self.shared.config;
        let rules = Rules { allow: &config.agent_addr_allow, own: &config.own };
        let address = address::resolve(text, self.ends, rules).await.map_err(|error| {
            let message = format!("agent {}: {error}", self.id);
            match error {
                AddressError::Malformed(_) | AddressError::Unresolved { .. } => {
                    Refusal::new(StatusCode::BAD_REQUEST, "bad_agent_address", &message)
                }
                AddressError::Refused { .. } => {
                    Refusal::new(StatusCode::FORBIDDEN, "agent_address_refused", &message)
                }
            }
        })?;
        self.address = Some((text.to_owned(), address));
        Ok(address)
    }
}

/// An agent that the gate knows. Dropping it tells the gate that it is gone, unless it is the gateway that goes.
struct Registered {
    gate: Gate,
    ending: CancellationToken,
    id: Arc<str>,
    nonce: Option<String>,
    registration: Registration,
}

impl Registered {
    fn new(shared: &Shared, id: Arc<str>, nonce: Option<String>) -> Self {
        let (gate, ending) = (shared.gate.clone(), shared.cancel.clone());
        let registration = gate.register(&id, nonce.as_deref());
        Self { gate, ending, id, nonce, registration }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if self.ending.is_cancelled() {
            info!(agent = %self.id, "an agent's connection was ended");
        } else {
            info!(agent = %self.id, "an agent's connection ended");
            self.gate.disconnected(self.registration);
        }
    }
}
