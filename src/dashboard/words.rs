//! What views say in words, the same everywhere. Pure.

use std::time::{Duration, SystemTime};

use super::{Agent, Snapshot};
use crate::core::snapshot::{BootPhase, Drain, HappeningKind};
use crate::core::{NoticeReason, Phase};

/// An agent that is shorter silent than this, and yet gets nothing new, gets nothing for another reason.
const SILENT_MIN: Duration = Duration::from_secs(1);

/// The mend, where the balancer does not say it.
const KEY_REFUSED: &str = "llama.cpp refuses the agent's key; give the agent --llamacpp-api-key";

/// The mend, where the balancer does not say it.
const SLOTS_OFF: &str = "start llama-server without --no-slots";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// What is wrong with an agent, each with its mend where there is one; nothing if it is as it should be.
///
/// 1. It is not heard.
/// 2. What keeps its slots from being known: a wrong key, `/slots` that is off, an error, a server that is not up.
/// 3. That its machine or its instance will end, and why.
/// 4. That it just failed a request.
/// 5. Nothing of these, and it gets nothing new all the same: it is silent, or not the one that counts.
#[must_use]
pub fn issues(agent: &Agent, state: &Snapshot) -> Vec<String> {
    let mut issues = Vec::new();
    let at = taken_at(state);
    let silence = at.duration_since(agent.last_update).unwrap_or_default();
    let since = || format!("since {} ({})", clock(agent.last_update), span(silence.as_secs_f64()));
    if !agent.is_connected {
        issues.push(format!("disconnected, silent {}", since()));
    }
    let said = |what: &str, else_: &str| format!("{what}: {}", agent.error.as_deref().unwrap_or(else_));
    match (agent.is_authorized, agent.is_slots_endpoint_enabled, &agent.error) {
        (Some(false), ..) => issues.push(said("unauthorised", KEY_REFUSED)),
        (_, Some(false), _) => issues.push(said("slots disabled", SLOTS_OFF)),
        (_, _, Some(error)) => issues.push(error.to_string()),
        (_, _, None) => {}
    }
    match agent.phase {
        Phase::Starting => issues.push("starting: nothing answers on its port yet".to_owned()),
        Phase::Loading => issues.push("loading the model".to_owned()),
        Phase::Failing if agent.error.is_none() => {
            issues.push("failing: what llama.cpp answers is of no use".to_owned());
        }
        Phase::Failing | Phase::Ready => {}
    }
    issues.extend(draining(agent, state));
    if let Some(until) = agent.quarantined_until {
        let left = until.duration_since(at).unwrap_or_default();
        issues.push(format!("quarantined until {} ({})", clock(until), span(left.as_secs_f64())));
    }
    if issues.is_empty() && !agent.is_eligible {
        issues.push(match silence >= SILENT_MIN {
            true => format!("silent {}", since()),
            false => "not used: a later agent has its address, or its instance ended".to_owned(),
        });
    }
    issues
}

/// What the agent's machine says of its end goes before what is planned for its instance.
fn draining(agent: &Agent, state: &Snapshot) -> Option<String> {
    if let Some(notice) = agent.notice {
        let why = match notice.reason {
            NoticeReason::SpotInterruption => "the spot market takes its machine back",
            NoticeReason::RebalanceRecommendation => "the spot market may take its machine back soon",
            NoticeReason::LifecycleTermination => "its group ends it",
        };
        let left = notice.left.map_or_else(String::new, |left| format!(", in {}", span(left.as_secs_f64())));
        return Some(format!("draining because {why}{left}"));
    }
    let instances = state.pools.iter().flat_map(|pool| &pool.instances);
    let own = instances.filter(|instance| agent.instance.as_ref() == Some(&instance.id));
    let why = match own.filter_map(|instance| instance.drain).next()? {
        Drain::Idle => "it was idle",
        Drain::Fault => "it did not come up, or was not heard",
        Drain::Notice => "its group ends it",
        Drain::Budget => "the day has cost as much as it may",
    };
    Some(format!("draining because {why}"))
}

/// What happened.
#[must_use]
pub fn happening(kind: HappeningKind) -> &'static str {
    match kind {
        HappeningKind::WakeAsked => "wake asked for",
        HappeningKind::WakeFailed => "wake refused",
        HappeningKind::WakeUnknown => "wake unanswered",
        HappeningKind::LaunchFailed => "launch failed",
        HappeningKind::BootFailed => "boot failed",
        HappeningKind::Registered => "serving",
        HappeningKind::DrainBegan => "draining",
        HappeningKind::Lost => "lost",
        HappeningKind::Ended => "ended",
    }
}

/// A part of a boot, as the metrics call it.
#[must_use]
pub fn boot_phase(phase: BootPhase) -> &'static str {
    match phase {
        BootPhase::Call => "call",
        BootPhase::Pending => "pending",
        BootPhase::Boot => "boot",
        BootPhase::Service => "service",
        BootPhase::Load => "load",
        BootPhase::Register => "register",
    }
}

/// How far a server has come.
#[must_use]
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Loading => "loading",
        Phase::Ready => "ready",
        Phase::Failing => "failing",
    }
}

/// When the snapshot was taken. A server may say anything: what is no time is the epoch.
#[must_use]
pub fn taken_at(state: &Snapshot) -> SystemTime {
    let since_epoch = Duration::try_from_secs_f64(state.at_seconds).unwrap_or_default();
    SystemTime::UNIX_EPOCH.checked_add(since_epoch).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// A time of the day, in UTC.
#[must_use]
pub fn clock(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % DAY;
    format!("{:02}:{:02}:{:02} UTC", seconds / HOUR, seconds % HOUR / MINUTE, seconds % MINUTE)
}

/// A span as people say it, in its two greatest units: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
#[must_use]
pub fn span(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if (0.05..0.95).contains(&seconds) {
        return format!("{seconds:.1} s");
    }
    // Saturates.
    let whole = seconds.round() as u64;
    let two = |great: u64, of: &str, small: u64, and: &str| match small {
        0 => format!("{great} {of}"),
        _ => format!("{great} {of} {small} {and}"),
    };
    match whole {
        0..MINUTE => format!("{whole} s"),
        MINUTE..HOUR => two(whole / MINUTE, "min", whole % MINUTE, "s"),
        HOUR..DAY => two(whole / HOUR, "h", whole % HOUR / MINUTE, "min"),
        DAY.. => two(whole / DAY, "d", whole % DAY / HOUR, "h"),
    }
}

/// A sum of money; fractions of a cent are shown where there is nothing else.
#[must_use]
pub fn usd(sum: f64) -> String {
    match sum {
        _ if !sum.is_finite() => "?".to_owned(),
        _ if sum < 0.0 => format!("-{}", usd(-sum)),
        _ if sum > 0.0 && sum < 0.01 => format!("${sum:.4}"),
        _ => format!("${sum:.2}"),
    }
}

#[cfg(test)]
mod tests;
