//! What the ledger's file holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::core::{Day, Days, GroupId, InstanceId, LedgerRecord, Usage};

/// Of the file's form. Another one is not understood.
const VERSION: u32 = 1;

/// More days than any balancer keeps.
const DAYS_MAX: usize = 1000;

/// More than any day can hold: as many instances as there may be, for a whole day.
const DAY_NANOSECONDS_MAX: u64 = 86_400_000_000_000 * 10_000;

/// 9999-12-31T23:59:59Z: years have four digits (RFC 3339).
const TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is cut, or something else.
    #[error("it is not the JSON that it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// It is larger than any ledger.
    #[error("it is larger than any ledger")]
    Size,
    /// It is of another time.
    #[error("its version is {0}, not {VERSION}")]
    Version(u32),
    /// Its values contradict each other.
    #[error("{0}")]
    Value(String),
}

/// Times are of UTC, spans in nanoseconds: nothing is rounded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    version: u32,
    /// The number of the balancer that wrote it.
    balancer: u64,
    at: String,
    began: String,
    days: BTreeMap<String, BTreeMap<Arc<str>, Span>>,
    instances: BTreeMap<InstanceId, Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    instance_nanoseconds: u64,
    busy_nanoseconds: u64,
}

/// What groups used that are not configured any more: kept, and not counted.
pub(super) type Others = BTreeMap<Day, BTreeMap<Arc<str>, Usage>>;

impl File {
    pub(super) fn new(record: &LedgerRecord, others: &Others, groups: &[Arc<str>], balancer: u64) -> Self {
        let mut days: BTreeMap<String, BTreeMap<Arc<str>, Span>> = BTreeMap::new();
        for (day, used) in &record.days {
            let named = used.iter().filter_map(|(group, usage)| Some((name(groups, *group)?, span(*usage))));
            days.insert(day.to_string(), named.collect());
        }
        for (day, used) in others {
            let named = used.iter().map(|(name, usage)| (name.clone(), span(*usage)));
            days.entry(day.to_string()).or_default().extend(named);
        }
        let instances = record.instances.iter();
        let instances = instances.filter_map(|(id, group)| Some((id.clone(), name(groups, *group)?)));
        Self {
            version: VERSION,
            balancer,
            at: time(record.at),
            began: time(record.began),
            days,
            instances: instances.collect(),
        }
    }

    /// The number of the balancer that wrote it, whatever its version is and the rest says.
    pub(super) fn number(text: &[u8]) -> Option<u64> {
        #[derive(Deserialize)]
        struct Numbered {
            balancer: u64,
        }
        serde_json::from_slice(text).ok().map(|Numbered { balancer }| balancer)
    }

    pub(super) fn read(text: &[u8]) -> Result<Self, Damage> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(text)?;
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// The record, and what is of groups that are not among these.
    pub(super) fn record(&self, groups: &[Arc<str>]) -> Result<(LedgerRecord, Others), Damage> {
        let wrong = |what: String| Damage::Value(what);
        let time = |name: &str, text: &str| {
            let at =
                humantime::parse_rfc3339(text).map_err(|_| wrong(format!("{name} '{text}' is no time")))?;
            at.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| wrong(format!("{name} is before 1970")))
        };
        let (at, began) = (time("at", &self.at)?, time("began", &self.began)?);
        if began > at {
            return Err(wrong(format!("it began at {}, after {}", self.began, self.at)));
        }
        if self.days.len() > DAYS_MAX {
            return Err(wrong(format!("it has {} days", self.days.len())));
        }
        let place = |name: &str| groups.iter().position(|group| &**group == name);
        let place = |name: &str| place(name).and_then(|at| u32::try_from(at).ok()).map(GroupId);
        let (mut days, mut others) = (Days::new(), Others::new());
        for (text, used) in &self.days {
            let day: Day = text.parse().map_err(|error| wrong(format!("'{text}' is {error}")))?;
            for (name, span) in used {
                let (all, busy) = (span.instance_nanoseconds, span.busy_nanoseconds);
                if busy > all || all > DAY_NANOSECONDS_MAX {
                    return Err(wrong(format!("of {text} '{name}' has {all} ns, {busy} of them busy")));
                }
                let usage = Usage { instance: Duration::from_nanos(all), busy: Duration::from_nanos(busy) };
                match place(name) {
                    Some(group) => days.entry(day).or_default().insert(group, usage),
                    None => others.entry(day).or_default().insert(name.clone(), usage),
                };
            }
        }
        let instances = self.instances.iter();
        let instances = instances.filter_map(|(id, name)| Some((id.clone(), place(name)?))).collect();
        Ok((LedgerRecord { at, began, days, instances }, others))
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // Plain maps of strings and numbers always serialise.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

fn name(groups: &[Arc<str>], group: GroupId) -> Option<Arc<str>> {
    groups.get(group.0 as usize).cloned()
}

fn span(usage: Usage) -> Span {
    let nanoseconds = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    Span { instance_nanoseconds: nanoseconds(usage.instance), busy_nanoseconds: nanoseconds(usage.busy) }
}

fn time(at: Duration) -> String {
    humantime::format_rfc3339_nanos(SystemTime::UNIX_EPOCH + at.min(TIME_MAX)).to_string()
}
