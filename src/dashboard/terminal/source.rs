//! Where the view learns what it shows: the management address of a balancer.

use std::time::Duration;

use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use serde_json::Value;

use super::text::clean;
use crate::agent::{ReadError, cause, read_body};
use crate::config::{HostPort, Secret};
use crate::dashboard::{Snapshot, Timeline};

/// From a question to the last byte of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer, in bytes: thousands of agents fit in.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why the balancer cannot be shown. Each is a line with its mend.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers there.
    #[error("cannot reach the balancer at {address}: {cause}; is it running? --management-addr says where")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        cause: String,
    },
    /// Somebody listens, and says nothing.
    #[error(
        "the balancer at {address} did not answer within {} s; does it run, and does --management-addr say where?",
        ANSWER_TIMEOUT.as_secs()
    )]
    Timeout {
        /// Where.
        address: String,
    },
    /// It has a token.
    #[error(
        "the balancer at {address} wants its management token; give --management-token-file or --management-token"
    )]
    TokenMissing {
        /// Where.
        address: String,
    },
    /// It has another token.
    #[error(
        "the balancer at {address} does not accept this token; give the one that it was started with as \
         --management-token-file or --management-token"
    )]
    TokenWrong {
        /// Where.
        address: String,
    },
    /// It says why.
    #[error("the balancer at {address} refuses: {message}")]
    Refused {
        /// Where.
        address: String,
        /// Its words.
        message: String,
    },
    /// Something else listens there.
    #[error(
        "what answers at {address} is not the management address of a Paddock balancer ({what}); --management-addr \
         says where that is"
    )]
    Foreign {
        /// Where.
        address: String,
        /// What it answers.
        what: String,
    },
    /// It is a balancer, but not of this time.
    #[error(
        "the balancer at {address} is version {theirs}, whose state version {} cannot read ({why}); use a program of \
         its version",
        env!("CARGO_PKG_VERSION")
    )]
    OtherVersion {
        /// Where.
        address: String,
        /// Its version.
        theirs: String,
        /// What the parser says.
        why: String,
    },
}

impl AskError {
    /// For the end of a line that says the rest.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Unreachable { cause, .. } => cause.clone(),
            Self::Timeout { .. } => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            Self::TokenMissing { .. } => "it wants its token".to_owned(),
            Self::TokenWrong { .. } => "it does not accept the token".to_owned(),
            Self::Refused { message, .. } => message.clone(),
            Self::Foreign { what, .. } => what.clone(),
            Self::OtherVersion { theirs, .. } => format!("version {theirs} is not understood"),
        }
    }

    /// Whether it is what people got wrong at the start, rather than something that passes.
    pub(super) fn is_mistake(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => false,
            Self::TokenMissing { .. }
            | Self::TokenWrong { .. }
            | Self::Refused { .. }
            | Self::Foreign { .. }
            | Self::OtherVersion { .. } => true,
        }
    }
}

/// How the management address says no.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
struct RefusalError {
    message: String,
}

/// A balancer that is asked.
#[derive(Debug)]
pub(super) struct Source {
    client: Client,
    address: HostPort,
    token: Option<Secret>,
}

impl Source {
    /// # Errors
    /// If the system has no room for a client.
    pub(super) fn new(address: HostPort, token: Option<Secret>) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .http1_only()
            .pool_max_idle_per_host(1)
            .timeout(ANSWER_TIMEOUT)
            .build()?;
        Ok(Self { client, address, token })
    }

    /// Where it asks.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The state as the balancer gave it.
    pub(super) async fn value(&self) -> Result<Value, AskError> {
        let (status, body) = self.ask("/api/v1/state").await?;
        if status != StatusCode::OK {
            return Err(self.foreign(format!("status {} for /api/v1/state", status.as_u16())));
        }
        let value: Value =
            serde_json::from_slice(&body).map_err(|_| self.foreign("its state is no JSON".to_owned()))?;
        if !value["version"].is_string() || !value["pools"].is_array() {
            return Err(self.foreign("its state has no version and no pools".to_owned()));
        }
        Ok(value)
    }

    /// The state.
    pub(super) async fn state(&self) -> Result<Snapshot, AskError> {
        let value = self.value().await?;
        let theirs = clean(value["version"].as_str().unwrap_or_default());
        serde_json::from_value(value).map_err(|error| AskError::OtherVersion {
            address: self.address(),
            theirs,
            why: clean(&error.to_string()),
        })
    }

    /// The last hour; none if the balancer remembers nothing, or in a way that is not understood.
    pub(super) async fn timeline(&self) -> Result<Option<Timeline>, AskError> {
        let (status, body) = self.ask("/api/v1/timeline").await?;
        Ok(serde_json::from_slice(&body).ok().filter(|_| status == StatusCode::OK))
    }

    /// The answer's status and body. What says no is an error already.
    async fn ask(&self, path: &str) -> Result<(StatusCode, Vec<u8>), AskError> {
        let mut request = self.client.get(format!("http://{}{path}", self.address));
        if let Some(token) = self.token.clone() {
            request = request.bearer_auth(token.into_exposed());
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = read_body(response, ANSWER_BYTES_MAX).await.map_err(|error| match error {
            ReadError::TooLong => {
                self.foreign(format!("an answer of more than {} MiB", ANSWER_BYTES_MAX >> 20))
            }
            ReadError::Broken(error) => self.unreachable(&error),
        })?;
        let address = self.address();
        match status {
            StatusCode::UNAUTHORIZED if self.token.is_none() => Err(AskError::TokenMissing { address }),
            StatusCode::UNAUTHORIZED => Err(AskError::TokenWrong { address }),
            StatusCode::FORBIDDEN => match serde_json::from_slice::<Refusal>(&body) {
                Ok(refusal) => Err(AskError::Refused { address, message: clean(&refusal.error.message) }),
                Err(_) => Err(self.foreign("status 403".to_owned())),
            },
            _ => Ok((status, body)),
        }
    }

    fn foreign(&self, what: String) -> AskError {
        AskError::Foreign { address: self.address(), what }
    }

    fn unreachable(&self, error: &reqwest::Error) -> AskError {
        let address = self.address();
        if error.is_timeout() {
            return AskError::Timeout { address };
        }
        let cause = cause(error);
        // "Connection refused (os error 111)": the number helps nobody.
        let cause = cause.split(" (os error").next().unwrap_or_default();
        AskError::Unreachable { address, cause: clean(&lower_first(cause)) }
    }
}

fn lower_first(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_lowercase().chain(rest).collect())
}
