//! The last things worth telling of a pool, each with its cause in words.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Core;
use super::ids::{GroupId, InstanceId, Mono, PoolId};
use super::instances::Instance;
use super::snapshot::{HappeningKind, HappeningSnapshot};

/// Happenings that are kept: some days of a quiet pool, and the last minutes of one in trouble.
const KEPT_MAX: usize = 50;

/// Why an instance leaves that could serve.
pub(super) const NOT_NEEDED: &str = "it is not needed any more";
pub(super) const NOT_HEARD: &str = "its agent was not heard, or its llama.cpp could not be used, for long";
pub(super) const FLEET_ENDS_IT: &str = "its fleet ends it";

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Happening {
    at: Mono,
    kind: HappeningKind,
    group: Option<GroupId>,
    instance: Option<InstanceId>,
    cause: Option<Arc<str>>,
}

/// The last happenings of one pool, the latest last.
#[derive(Debug, Default)]
pub(super) struct Journal {
    kept: VecDeque<Happening>,
}

impl Journal {
    /// Of a group.
    pub(super) fn of_group(
        &mut self,
        at: Mono,
        kind: HappeningKind,
        group: GroupId,
        cause: Option<Arc<str>>,
    ) {
        self.add(Happening { at, kind, group: Some(group), instance: None, cause });
    }

    /// Of an instance.
    pub(super) fn of_instance(
        &mut self,
        at: Mono,
        kind: HappeningKind,
        (instance, group): (&InstanceId, GroupId),
        cause: Option<Arc<str>>,
    ) {
        self.add(Happening { at, kind, group: Some(group), instance: Some(instance.clone()), cause });
    }

    /// An instance is gone.
    ///
    /// 1. One that booted has failed to.
    /// 2. One that was on its way out has come to its end.
    /// 3. Any other is lost.
    pub(super) fn gone(&mut self, at: Mono, id: &InstanceId, instance: &Instance, cause: &Arc<str>) {
        let (kind, cause) = match (instance.is_ending() || !instance.is_there(), instance.is_booting()) {
            (_, true) => (HappeningKind::BootFailed, Some(cause.clone())),
            (true, false) => (HappeningKind::Ended, None),
            (false, false) => (HappeningKind::Lost, Some(cause.clone())),
        };
        self.of_instance(at, kind, (id, instance.group), cause);
    }

    fn add(&mut self, happening: Happening) {
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(happening);
    }

    /// As of now.
    pub(super) fn told(&self, now: Mono) -> Vec<HappeningSnapshot> {
        let told = |happening: &Happening| HappeningSnapshot {
            ago_seconds: now.since(happening.at).as_secs_f64(),
            kind: happening.kind,
            group: happening.group,
            instance: happening.instance.clone(),
            cause: happening.cause.clone(),
        };
        self.kept.iter().map(told).collect()
    }
}

impl Core {
    /// Why an instance is asked for now.
    #[must_use]
    pub fn wake_reason(waiting: usize) -> String {
        match waiting {
            0 => "there are fewer than --min-instances".to_owned(),
            1 => "1 request waits".to_owned(),
            waiting => format!("{waiting} requests wait"),
        }
    }

    /// Something happened to a group as a whole.
    pub(super) fn note_of_group(
        &mut self,
        id: PoolId,
        kind: HappeningKind,
        group: GroupId,
        cause: &Arc<str>,
    ) {
        let now = self.now;
        if let Some(pool) = self.pools.get_mut(&id) {
            pool.journal.of_group(now, kind, group, Some(cause.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_are_kept_with_their_age() {
        let mut journal = Journal::default();
        let at = |seconds: u64| Mono(Duration::from_secs(seconds));
        assert_eq!(journal.told(at(5)), []);
        for second in 0..200 {
            let cause = Some(format!("reason {second}").into());
            journal.of_group(at(second), HappeningKind::WakeAsked, GroupId(1), cause);
        }
        journal.of_instance(at(201), HappeningKind::Ended, (&"i-1".into(), GroupId(0)), None);
        let told = journal.told(at(210));
        assert_eq!(told.len(), KEPT_MAX);
        assert_eq!((told[0].ago_seconds, told[0].cause.as_deref()), (59.0, Some("reason 151")));
        assert_eq!(
            told[KEPT_MAX - 1],
            HappeningSnapshot {
                ago_seconds: 9.0,
                kind: HappeningKind::Ended,
                group: Some(GroupId(0)),
                instance: Some("i-1".into()),
                cause: None,
            }
        );
    }
}
