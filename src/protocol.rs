//! What an agent tells the balancer: Paddler 1.x's status object, and more beside it.
//!
//! Agents of Paddler 1.x send a subset of [`StatusUpdate`], and its balancers ignore what they do not know, so
//! either side can be replaced first.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::core::{self, AgentReport, InstanceId, Notice, NoticeReason, PoolId};

mod frames;

pub use frames::{FrameError, Frames, REPORT_BYTES_MAX};

/// More slots than any llama.cpp runs: a greater count is a mistake and is cut to this.
pub const SLOTS_MAX: u32 = 1024;

/// The longest name or instance id that is kept, in bytes: they are shown in tables.
const NAME_BYTES_MAX: usize = 256;

/// The longest error that is kept, in bytes: enough for a sentence and its cause.
const ERROR_BYTES_MAX: usize = 1024;

/// The longest heartbeat or age that is believed, so that no agent can claim to be alive for ever.
const SPAN_MAX: Duration = Duration::from_secs(3600);

/// The mend for llama.cpp's 401. Paddler's object has no error of its own for it.
const KEY_REFUSED: &str = "llama.cpp refuses the agent's key: set --llamacpp-api-key to the key that llama-server \
                           was started with";

/// The mend for llama.cpp's 501. Paddler's object has no error of its own for it.
const SLOTS_OFF: &str = "llama.cpp's /slots is off: start llama-server without --no-slots";

/// One report of an agent.
///
/// The fields down to `slots` are Paddler 1.x's. The others are absent in its agents' reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusUpdate {
    /// The name that people gave the agent.
    #[serde(default)]
    pub agent_name: Option<String>,
    /// What is wrong, in words.
    #[serde(default)]
    pub error: Option<String>,
    /// Where the balancer reaches llama.cpp, as `host:port`.
    pub external_llamacpp_addr: String,
    /// Slots that wait for work.
    #[serde(default, deserialize_with = "count")]
    pub idle_slots_count: u32,
    /// Whether llama.cpp accepted the agent's key, where that is known.
    #[serde(default)]
    pub is_authorized: Option<bool>,
    /// Whether llama.cpp's `/slots` is on, where that is known.
    #[serde(default)]
    pub is_slots_endpoint_enabled: Option<bool>,
    /// Slots that compute.
    #[serde(default, deserialize_with = "count")]
    pub processing_slots_count: u32,
    /// Each slot.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub slots: Vec<SlotStatus>,
    /// The version of the agent's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Random, drawn at the agent's start: another one means another life of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_nonce: Option<String>,
    /// Counts the observations of one life, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// How old the slots were when this was sent, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_age_ms: Option<u64>,
    /// The longest time between two reports of a healthy agent, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// What the fleet calls the machine or process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Where in its start llama.cpp is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The cloud's zone that the machine is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// The Auto Scaling group that the machine belongs to, where the metadata tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Why nothing new may be sent here: the machine is about to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_reason: Option<DrainReason>,
    /// How long the machine will still be there, in milliseconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_left_ms: Option<u64>,
    /// How long ago the steps of the start were, as of the moment at which this was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<BootAges>,
}

/// The steps of a start, each as the milliseconds that have passed since. Ages and not times of day: the clocks of two
/// machines may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BootAges {
    /// The machine was asked for: `pendingTime` of the instance identity document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launched_ms: Option<u64>,
    /// Its kernel came up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_ms: Option<u64>,
    /// The agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_ms: Option<u64>,
    /// llama.cpp answered for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_ms: Option<u64>,
    /// llama.cpp had loaded its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_ms: Option<u64>,
}

/// Why a machine is about to end, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// The spot market takes it back, within two minutes.
    SpotInterruption,
    /// The spot market may take it back soon.
    RebalanceRecommendation,
    /// Its Auto Scaling group ends it.
    LifecycleTermination,
    /// Something that a later version knows.
    #[serde(other)]
    Other,
}

/// One slot of llama.cpp, as its `/slots` and Paddler's reports name it. Other fields may hold prompts: they are
/// dropped unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Its number.
    pub id: i64,
    /// Whether it computes.
    pub is_processing: bool,
}

/// Where in its start a server is, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing answers on its port yet.
    Starting,
    /// llama.cpp answers 503: it loads the model.
    Loading,
    /// llama.cpp is healthy and its slots are known.
    Ready,
    /// llama.cpp answers, but not in a way that can be used.
    Failing,
}

impl From<Phase> for core::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Loading => Self::Loading,
            Phase::Ready => Self::Ready,
            Phase::Failing => Self::Failing,
        }
    }
}

impl StatusUpdate {
    /// What the core is told. `address` is `external_llamacpp_addr` as the caller resolved it.
    ///
    /// The counts are believed only when `/slots` answered; what an agent may write at will is bounded here.
    #[must_use]
    pub fn into_report(self, pool: PoolId, address: SocketAddr) -> AgentReport {
        let refused = self.is_authorized == Some(false);
        let slots_off = self.is_slots_endpoint_enabled == Some(false);
        let slots_known = self.is_slots_endpoint_enabled == Some(true)
            && !refused
            && matches!(self.phase, None | Some(Phase::Ready));
        let phase = match self.phase {
            _ if slots_known => core::Phase::Ready,
            None if refused || slots_off || self.error.is_some() => core::Phase::Failing,
            None => core::Phase::Starting,
            // Healthy, but without slots that could be counted.
            Some(Phase::Ready) => core::Phase::Failing,
            Some(phase) => phase.into(),
        };
        let error = match self.error {
            Some(error) => Some(plain(&error, ERROR_BYTES_MAX).into()),
            None if refused => Some(KEY_REFUSED.into()),
            None if slots_off => Some(SLOTS_OFF.into()),
            None => None,
        };
        let idle = self.idle_slots_count.min(SLOTS_MAX);
        let slots_total =
            if slots_known { (idle + self.processing_slots_count.min(SLOTS_MAX)).min(SLOTS_MAX) } else { 0 };
        AgentReport {
            pool,
            name: self.agent_name.map(|name| plain(&name, NAME_BYTES_MAX).into()),
            address,
            instance: self.instance_id.map(|id| InstanceId(plain(&id, NAME_BYTES_MAX).into())),
            phase,
            slots_total,
            slots_busy: self.processing_slots_count.min(slots_total),
            sample_age: self.sample_age_ms.map(span),
            heartbeat: self.heartbeat_ms.map(span).filter(|heartbeat| !heartbeat.is_zero()),
            is_authorized: self.is_authorized,
            is_slots_endpoint_enabled: self.is_slots_endpoint_enabled,
            error,
            zone: self.availability_zone.map(|zone| plain(&zone, NAME_BYTES_MAX).into()),
            group: self.group.map(|group| plain(&group, NAME_BYTES_MAX).into()),
            notice: self
                .drain_reason
                .map(|reason| Notice { reason: reason.into(), left: self.drain_left_ms.map(span) }),
            boot: self.boot.unwrap_or_default().into(),
        }
    }
}

impl From<DrainReason> for NoticeReason {
    fn from(reason: DrainReason) -> Self {
        match reason {
            DrainReason::SpotInterruption => Self::SpotInterruption,
            DrainReason::RebalanceRecommendation => Self::RebalanceRecommendation,
            DrainReason::LifecycleTermination | DrainReason::Other => Self::LifecycleTermination,
        }
    }
}

impl From<BootAges> for core::BootAges {
    fn from(ages: BootAges) -> Self {
        Self {
            launched: ages.launched_ms.map(age),
            kernel: ages.kernel_ms.map(age),
            agent: ages.agent_ms.map(age),
            answered: ages.answered_ms.map(age),
            loaded: ages.loaded_ms.map(age),
        }
    }
}

/// Text from outside made fit for one line of a log or a table: at most `bytes_max` bytes, and nothing [hidden](is_hidden).
pub(crate) fn plain(text: &str, bytes_max: usize) -> String {
    text.char_indices()
        .take_while(|(at, c)| at + c.len_utf8() <= bytes_max)
        .map(|(_, c)| if is_hidden(c) { ' ' } else { c })
        .collect()
}

/// Whether it would act on whatever shows it, or would not be seen: control characters, with which escape sequences begin;
/// those that are ignored where they are drawn (Unicode Standard Annex 44, Default_Ignorable_Code_Point), of which some
/// change the order of what follows; and those that break a line.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// An age of any length: a machine may have booted months ago.
fn age(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn span(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds).min(SPAN_MAX)
}

/// A count that may be null, negative or far too great. Reading it as a float takes every JSON number, and the
/// conversion saturates.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let number: Option<f64> = Deserialize::deserialize(deserializer)?;
    Ok((number.unwrap_or(0.0) as u32).min(SLOTS_MAX))
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SlotStatus>, D::Error> {
    let slots: Option<Vec<SlotStatus>> = Deserialize::deserialize(deserializer)?;
    Ok(slots.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an unmodified Paddler 1.x agent sends.
    const PADDLER: &str = r#"{"agent_name":null,"error":null,"external_llamacpp_addr":"127.0.0.1:8088","idle_slots_count":1,"is_authorized":true,"is_slots_endpoint_enabled":true,"processing_slots_count":1,"slots":[{"id":0,"is_processing":false},{"id":1,"is_processing":true}]}"#;

    fn update(json: &str) -> StatusUpdate {
        serde_json::from_str(json).unwrap()
    }

    fn report(json: &str) -> AgentReport {
        update(json).into_report(PoolId(0), "127.0.0.1:8088".parse().unwrap())
    }

    fn with(extra: &str) -> AgentReport {
        report(&format!(r#"{{"external_llamacpp_addr":"a:1"{extra}}}"#))
    }

    #[test]
    fn paddlers_own_object_is_read_and_written_unchanged() {
        let paddler = update(PADDLER);
        assert_eq!(paddler.slots[1], SlotStatus { id: 1, is_processing: true });
        assert_eq!(serde_json::to_string(&paddler).unwrap(), PADDLER);

        let report = report(PADDLER);
        assert_eq!((report.slots_total, report.slots_busy), (2, 1));
        assert_eq!(report.phase, core::Phase::Ready);
        assert_eq!((report.heartbeat, report.sample_age, report.error), (None, None, None));
    }

    #[test]
    fn only_the_address_is_needed_and_later_fields_are_ignored() {
        assert!(serde_json::from_str::<StatusUpdate>("{}").is_err());
        let report =
            with(r#","slots":null,"idle_slots_count":null,"mood":"good","is_slots_endpoint_enabled":true"#);
        assert_eq!((report.phase, report.slots_total), (core::Phase::Ready, 0));
    }

    #[test]
    fn counts_are_bounded() {
        let counts = |idle: &str, busy: &str| {
            let report = with(&format!(
                r#","is_slots_endpoint_enabled":true,"idle_slots_count":{idle},"processing_slots_count":{busy}"#
            ));
            (report.slots_total, report.slots_busy)
        };
        assert_eq!(counts("3", "4"), (7, 4));
        assert_eq!(counts("-3", "4"), (4, 4));
        assert_eq!(counts("18446744073709551615", "1"), (SLOTS_MAX, 1));
        assert_eq!(counts("4294967295", "4294967295"), (SLOTS_MAX, SLOTS_MAX));
        let unread =
            StatusUpdate { idle_slots_count: u32::MAX, processing_slots_count: u32::MAX, ..update(PADDLER) };
        let report = unread.into_report(PoolId(0), "127.0.0.1:1".parse().unwrap());
        assert_eq!((report.slots_total, report.slots_busy), (SLOTS_MAX, SLOTS_MAX));
    }

    #[test]
    fn slots_count_only_when_they_are_known() {
        let slots = r#","idle_slots_count":2,"processing_slots_count":1"#;
        for (facts, phase, total) in [
            (r#","is_slots_endpoint_enabled":true"#, core::Phase::Ready, 3),
            (r#","is_slots_endpoint_enabled":true,"phase":"ready""#, core::Phase::Ready, 3),
            (r#","is_slots_endpoint_enabled":true,"phase":"loading""#, core::Phase::Loading, 0),
            (r#","is_slots_endpoint_enabled":true,"phase":"starting""#, core::Phase::Starting, 0),
            (r#","is_slots_endpoint_enabled":true,"phase":"failing""#, core::Phase::Failing, 0),
            (r#","is_slots_endpoint_enabled":true,"is_authorized":false"#, core::Phase::Failing, 0),
            (r#","is_slots_endpoint_enabled":false"#, core::Phase::Failing, 0),
            (r#","is_authorized":true,"phase":"ready""#, core::Phase::Failing, 0),
            (r#","error":"no route""#, core::Phase::Failing, 0),
            ("", core::Phase::Starting, 0),
        ] {
            let report = with(&format!("{slots}{facts}"));
            assert_eq!((report.phase, report.slots_total), (phase, total), "{facts}");
            assert!(report.slots_busy <= report.slots_total, "{facts}");
        }
    }

    #[test]
    fn a_refused_key_and_missing_slots_get_a_mend() {
        let error = |facts: &str| with(facts).error.unwrap().to_string();
        assert!(error(r#","is_authorized":false"#).contains("--llamacpp-api-key"));
        assert!(error(r#","is_slots_endpoint_enabled":false"#).contains("--no-slots"));
        assert_eq!(error(r#","is_authorized":false,"error":"own words""#), "own words");
    }

    #[test]
    fn a_machine_that_ends_says_why_and_when() {
        let notice = |facts: &str| with(facts).notice;
        assert_eq!(notice(""), None);
        let left = Some(Duration::from_secs(120));
        for (reason, expected) in [
            ("spot_interruption", NoticeReason::SpotInterruption),
            ("rebalance_recommendation", NoticeReason::RebalanceRecommendation),
            ("lifecycle_termination", NoticeReason::LifecycleTermination),
            ("of a later version", NoticeReason::LifecycleTermination),
        ] {
            let facts = format!(r#","drain_reason":"{reason}","drain_left_ms":120000"#);
            assert_eq!(notice(&facts), Some(Notice { reason: expected, left }), "{reason}");
        }
    }

    #[test]
    fn text_and_spans_from_outside_are_bounded() {
        let long = "ä".repeat(2000);
        let report = with(&format!(
            r#","agent_name":"a\nb","error":"{long}","instance_id":"{long}","heartbeat_ms":18446744073709551615,"sample_age_ms":7"#
        ));
        assert_eq!(report.name.as_deref(), Some("a b"));
        assert_eq!(report.error.unwrap().len(), ERROR_BYTES_MAX);
        assert_eq!(report.instance.unwrap().0.len(), NAME_BYTES_MAX);
        assert_eq!(report.heartbeat, Some(SPAN_MAX));
        assert_eq!(report.sample_age, Some(Duration::from_millis(7)));
        assert_eq!(with(r#","heartbeat_ms":0"#).heartbeat, None);
    }
}
