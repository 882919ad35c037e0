//! Calls to AWS: settings that all clients share, and failures in the words that a caller can act on.

#[cfg(test)]
mod tests;

use std::error::Error;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_cloudwatch::config::SharedHttpClient;
use aws_sdk_cloudwatch::config::http::HttpResponse;
use aws_sdk_cloudwatch::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use hyper_util::client::legacy;

/// To connect: the SDK's own default, said here because the other two build on it.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3100);

/// One attempt of a call, credentials included. The SDK waits 5 s for credentials by itself, and a slow answer is rarely
/// slower than that; it waits for ever for an answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A call with all its attempts and the pauses between them: two that hang and one that does not.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(25);

/// What AWS says may hold a whole encoded policy; a line of the log does not need more characters of it.
const WORDS_MAX: usize = 500;

/// Shown to AWS in each call's user agent.
const APP_NAME: &str = "paddock";

/// What every AWS tool takes, as every AWS tool takes it: region, profile, endpoints and credentials from the
/// environment, the profile files and the instance's metadata. Calls are tried three times by default (`AWS_MAX_ATTEMPTS`).
///
/// Without a region in the environment or the profile this asks the instance's metadata, which takes seconds where there
/// is none. A missing region and missing credentials are told by the first call.
pub async fn config() -> SdkConfig {
    loader().load().await
}

fn loader() -> ConfigLoader {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
    let loader = loader.http_client(http_client());
    match AppName::new(APP_NAME) {
        Ok(name) => loader.app_name(name),
        Err(_) => loader,
    }
}

/// The SDK's own default, but one for all clients of a configuration. By itself each client has connections of its own,
/// and one that is used rarely, such as for wakes, would begin each time with a handshake. This one is kept warm by the
/// looks: the pool keeps a connection for 90 s, and a look comes every minute.
fn http_client() -> SharedHttpClient {
    Builder::new().build_with_connector_fn(|settings, components| {
        let connector = Connector::builder().tls_provider(Provider::Rustls(CryptoMode::AwsLc));
        let mut connector = connector.proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        connector.build()
    })
}

/// Why a call failed, by what its caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// None were found, or what should give them failed. Nothing was sent.
    #[error(
        "no AWS credentials ({why}); give this machine an instance profile, or set AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )]
    NoCredentials {
        /// What each source said.
        why: String,
    },
    /// None was found. Nothing was sent.
    #[error("no AWS region; set AWS_REGION, such as AWS_REGION=eu-central-1")]
    NoRegion,
    /// AWS does not accept them: wrong, expired, or signed by a clock that is wrong.
    #[error("AWS refuses the credentials ({code}: {message}); renew them, or mend this machine's clock")]
    BadCredentials {
        /// AWS's name for it.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// The caller may not do this.
    #[error("AWS does not allow {action} ({message}); allow it in the IAM policy of the credentials in use")]
    Denied {
        /// The IAM action that is missing.
        action: String,
        /// AWS's words.
        message: String,
    },
    /// Too many calls in this account and region. Nothing was done.
    #[error("AWS asks for fewer calls ({code}: {message})")]
    Throttled {
        /// AWS's name for it.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// AWS will not do it, however often it is asked (4xx).
    #[error("{code}: {message}")]
    Rejected {
        /// AWS's name for it.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// AWS failed (5xx). It may have been done all the same.
    #[error("AWS failed with {status} ({code}: {message})")]
    Server {
        /// The status of the answer.
        status: u16,
        /// AWS's name for it.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// Nobody could be connected to. Nothing was sent.
    #[error(
        "AWS cannot be reached ({why}); look at the network, at AWS_ENDPOINT_URL, and in a private subnet at the service's \
         interface endpoint"
    )]
    Unreachable {
        /// What failed, from the outside in.
        why: String,
    },
    /// It was sent, or may have been, and the answer did not come or could not be read: it may have been done.
    #[error("the answer of AWS was lost ({why})")]
    Unknown {
        /// What failed, from the outside in.
        why: String,
    },
    /// The request could not be made. Nothing was sent.
    #[error("the call to AWS cannot be made ({why})")]
    Invalid {
        /// What failed, from the outside in.
        why: String,
    },
}

impl CallError {
    /// What `error` means. `action` is the IAM action of the call, such as `cloudwatch:PutMetricData`: AWS's words name the
    /// missing one only sometimes.
    ///
    /// This is about the last attempt. Of a call that must not be done twice the SDK's own repetition has to be off
    /// (`RetryConfig::disabled`), because an earlier attempt's lost answer is not seen here.
    ///
    /// 1. A failure that AWS tells is judged by its code, then by its status ("Common Error Types" of each service's API reference).
    /// 2. Without one, what is missing here comes first: credentials, region.
    /// 3. A connection that never was has sent nothing.
    /// 4. Anything else may have been done, an answer that cannot be read included.
    pub fn of<E>(action: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        // Of a success that cannot be read the SDK makes a failure of the service.
        if let SdkError::ServiceError(answer) = error
            && !answer.raw().status().is_success()
        {
            return Self::answered(action, answer.raw().status().as_u16(), answer.err());
        }
        let why = words(error);
        if find::<CredentialsError>(error).is_some() || why.contains("credentials") {
            return Self::NoCredentials { why };
        }
        // The SDK has no type for this: the endpoint's rules say the one, the signer says the other.
        if why.contains("Missing Region") || why.contains("missing signing region") {
            return Self::NoRegion;
        }
        if find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect) {
            return Self::Unreachable { why };
        }
        if let SdkError::ConstructionFailure(_) = error {
            return Self::Invalid { why };
        }
        Self::Unknown { why }
    }

    fn answered(action: &str, status: u16, error: &impl ProvideErrorMetadata) -> Self {
        let code = error.code().map_or_else(|| format!("HTTP {status}"), line);
        let message = error.message().map_or_else(|| "without words".to_owned(), line);
        let is_any = |codes: &[&str]| codes.contains(&code.as_str());
        if status == 429 || code.contains("Throttl") || is_any(&THROTTLED) {
            Self::Throttled { code, message }
        } else if is_any(&DENIED) {
            Self::Denied { action: denied_action(&message).unwrap_or(action).to_owned(), message }
        } else if is_any(&BAD_CREDENTIALS) {
            Self::BadCredentials { code, message }
        } else if status >= 500 {
            Self::Server { status, code, message }
        } else {
            Self::Rejected { code, message }
        }
    }

    /// AWS's name for the failure, if AWS answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::BadCredentials { code, .. }
            | Self::Throttled { code, .. }
            | Self::Rejected { code, .. }
            | Self::Server { code, .. } => Some(code),
            Self::Denied { .. } => Some(DENIED[0]),
            Self::NoCredentials { .. }
            | Self::NoRegion
            | Self::Unreachable { .. }
            | Self::Unknown { .. }
            | Self::Invalid { .. } => None,
        }
    }

    /// Whether what was asked for may have been done: look before you ask again.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Server { .. } | Self::Unknown { .. })
    }

    /// Whether nothing changes before somebody mends something.
    #[must_use]
    pub fn needs_mending(&self) -> bool {
        matches!(
            self,
            Self::NoCredentials { .. } | Self::NoRegion | Self::BadCredentials { .. } | Self::Denied { .. }
        )
    }
}

/// Beside those that have `Throttl` in their name.
const THROTTLED: [&str; 5] = [
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
    "BandwidthLimitExceeded",
    "PriorRequestNotComplete",
];

const DENIED: [&str; 4] = ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"];

const BAD_CREDENTIALS: [&str; 13] = [
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// `autoscaling:SetDesiredCapacity` in "User: … is not authorized to perform: autoscaling:SetDesiredCapacity on resource: …".
fn denied_action(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    rest.split_whitespace().next().filter(|action| action.contains(':'))
}

/// A failed call in one line: AWS's code and message, or what failed from the outside in.
pub fn words<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: Error + ProvideErrorMetadata + 'static,
{
    if let (Some(code), message) = (error.code(), error.message()) {
        return line(&format!("{code}: {}", message.unwrap_or("without words")));
    }
    let chain = std::iter::successors(Some(error as &dyn Error), |&error| error.source());
    let mut parts: Vec<String> = chain.map(ToString::to_string).collect();
    // Some layers repeat what they wrap.
    parts.dedup();
    line(&parts.join(": "))
}

/// In one line, of a bounded length.
fn line(text: &str) -> String {
    let mut text = text.replace(char::is_control, " ");
    if let Some((end, _)) = text.char_indices().nth(WORDS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}
