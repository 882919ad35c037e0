//! Calls to AWS, counted where the SDK makes them: so none is forgotten, and each attempt is seen, as AWS sees it.

use std::fmt;

use aws_sdk_cloudwatch::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_cloudwatch::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudwatch::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::label::{CallResult, Label};

/// One kind of call. There are as many as this program makes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AwsCall {
    /// As AWS calls it, such as `SetDesiredCapacity`.
    pub(super) action: String,
    pub(super) result: CallResult,
}

impl EncodeLabelValue for CallResult {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.value().encode(encoder)
    }
}

/// Calls to AWS, by action and result.
pub type AwsCalls = Family<AwsCall, Counter>;

/// Counts what a client of the SDK does.
#[derive(Debug)]
pub struct CountCalls(pub AwsCalls);

impl Intercept for CountCalls {
    fn name(&self) -> &'static str {
        "CountCalls"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(call) = settings.load::<Metadata>() else { return Ok(()) };
        let is_ok = context.output_or_error().is_some_and(|outcome| outcome.is_ok());
        let answer = context.response().map(|answer| (answer.status().as_u16(), answer.body().bytes()));
        let result = match answer {
            None => CallResult::Unanswered,
            Some(_) if is_ok => CallResult::Ok,
            Some((status, body)) => failure(status, body.unwrap_or_default()),
        };
        self.0.get_or_create(&AwsCall { action: call.name().to_owned(), result }).inc();
        Ok(())
    }
}

/// The code of a failure is somewhere in its body, in each service's own form; all codes of throttling have this in
/// common ("Common Error Types" of each service's API reference).
fn failure(status: u16, body: &[u8]) -> CallResult {
    const THROTTLED: &[u8] = b"Throttl";
    let is_throttled = status == 429 || body.windows(THROTTLED.len()).any(|part| part == THROTTLED);
    match status {
        400..=499 if is_throttled => CallResult::Throttled,
        400..=499 => CallResult::Refused,
        _ => CallResult::Failed,
    }
}
