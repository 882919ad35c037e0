//! What goes wrong with calls, on purpose.

use std::sync::Mutex;
use std::time::Duration;

use super::query::ApiError;

/// One way in which a call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// `Throttling`, 400, "Rate exceeded". ("EC2 Auto Scaling API, Throttling for the EC2 Auto Scaling API")
    Throttled,
    /// 403 with the caller, the action, and for actions on one group its ARN. (as in public reports)
    AccessDenied,
    /// 403. ("EC2 Auto Scaling API, Common Errors")
    ExpiredToken,
    /// 500. ("EC2 Auto Scaling API, Common Errors")
    InternalFailure,
    /// 503. ("EC2 Auto Scaling API, Common Errors")
    ServiceUnavailable,
    /// Any other.
    Error { status: u16, code: String, message: String },
    /// Carried out at once, answered late. Other faults come on top.
    Slow(Duration),
    /// Carried out, then the connection is closed without an answer.
    AnswerLost,
    /// The connection is closed; nothing is carried out.
    CallLost,
}

impl Fault {
    /// What is answered instead of carrying the call out. `action` is as IAM names it; `resource` is what it is done
    /// to, if it is one thing.
    pub fn error(&self, action: &str, resource: Option<&str>, caller: &str) -> Option<ApiError> {
        let on = resource.map(|arn| format!(" on resource: {arn}")).unwrap_or_default();
        Some(match self {
            Self::Throttled => ApiError::sender("Throttling", "Rate exceeded"),
            Self::AccessDenied => ApiError::new(
                403,
                "AccessDenied",
                &format!(
                    "User: {caller} is not authorized to perform: {action}{on} because no identity-based policy \
                     allows the {action} action"
                ),
            ),
            Self::ExpiredToken => {
                ApiError::new(403, "ExpiredToken", "The security token included in the request is expired")
            }
            Self::InternalFailure => ApiError::new(
                500,
                "InternalFailure",
                "The request processing has failed because of an unknown error, exception or failure.",
            ),
            Self::ServiceUnavailable => ApiError::new(
                503,
                "ServiceUnavailable",
                "The request has failed due to a temporary failure of the server.",
            ),
            Self::Error { status, code, message } => ApiError::new(*status, code, message),
            Self::Slow(_) | Self::AnswerLost | Self::CallLost => return None,
        })
    }
}

#[derive(Debug)]
struct Rule {
    /// None for every action.
    action: Option<String>,
    fault: Fault,
    /// None until cleared.
    left: Option<u32>,
}

#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    pub fn add(&self, action: Option<&str>, fault: Fault, times: Option<u32>) {
        let action = action.map(str::to_owned);
        self.0.lock().unwrap().push(Rule { action, fault, left: times });
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// What this call is to suffer: how much it is slowed down, and one other fault at most. The first rule that fits
    /// is used up before the next one.
    pub fn take(&self, action: &str) -> (Duration, Option<Fault>) {
        let mut rules = self.0.lock().unwrap();
        let (mut delay, mut fault) = (Duration::ZERO, None);
        for rule in rules.iter_mut() {
            let is_fitting = rule.action.as_deref().is_none_or(|only| only == action) && rule.left != Some(0);
            let is_slow = matches!(rule.fault, Fault::Slow(_));
            if !is_fitting || (is_slow && !delay.is_zero()) || (!is_slow && fault.is_some()) {
                continue;
            }
            if let Some(left) = &mut rule.left {
                *left -= 1;
            }
            if let Fault::Slow(by) = rule.fault {
                delay = by;
            } else {
                fault = Some(rule.fault.clone());
            }
        }
        (delay, fault)
    }
}
