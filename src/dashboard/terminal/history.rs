//! What the last hour was, for the sparklines. Pure.

use std::collections::VecDeque;

use crate::core::snapshot::PoolSnapshot;
use crate::dashboard::{Snapshot, Timeline, words};

/// The most moments that are remembered here, one for each answer: an hour of them.
const OWN_MAX: usize = 3600;

/// The most points of the balancer that are kept: it tells an hour.
const TOLD_MAX: usize = 3600;

/// One moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// Requests that waited.
    pub queued: u64,
    /// Slots that were in use.
    pub used: u64,
}

/// The past: as the balancer tells it, or else as it was seen from here.
#[derive(Debug, Default)]
pub(super) struct History {
    told: Option<(f64, Vec<Moment>)>,
    own: VecDeque<Moment>,
}

impl History {
    /// What the balancer remembers, or that it remembers nothing.
    pub(super) fn tell(&mut self, timeline: Option<&Timeline>) {
        self.told = timeline.filter(|timeline| !timeline.points.is_empty()).map(|timeline| {
            let kept = timeline.points.len().saturating_sub(TOLD_MAX);
            let points = timeline.points.iter().skip(kept);
            let moments = points.map(|point| Moment {
                queued: point.requests_buffered as u64,
                used: point.slots_processing.into(),
            });
            (timeline.step_seconds, moments.collect())
        });
    }

    /// One more moment, seen from here.
    pub(super) fn saw(&mut self, state: &Snapshot) {
        let used = |pool: &PoolSnapshot| u64::from(pool.slots_processing);
        if self.own.len() == OWN_MAX {
            self.own.pop_front();
        }
        let used = state.pools.iter().map(used).sum();
        self.own.push_back(Moment { queued: state.requests_buffered as u64, used });
    }

    /// How far back it goes, in words.
    pub(super) fn reach(&self) -> String {
        match &self.told {
            Some((step, moments)) => format!("last {}", words::span(step * moments.len() as f64)),
            None => "seen so far".to_owned(),
        }
    }

    /// The past in so many columns, the latest last: the greatest of each column, none where nothing is known.
    pub(super) fn columns(&self, columns: usize, of: fn(&Moment) -> u64) -> Vec<Option<u64>> {
        let values: Vec<u64> = match &self.told {
            Some((_, moments)) => moments.iter().map(of).collect(),
            None => self.own.iter().map(of).collect(),
        };
        if columns == 0 {
            return Vec::new();
        }
        // Whole groups from the end on, so that only the oldest column is of fewer.
        let each = values.len().div_ceil(columns).max(1);
        let mut filled: Vec<Option<u64>> =
            values.rchunks(each).map(|group| group.iter().max().copied()).collect();
        filled.resize(columns, None);
        filled.reverse();
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::{Point, sample};

    fn timeline(queued: &[usize]) -> Timeline {
        let point = |&requests_buffered| Point {
            at_seconds: 0.0,
            requests_buffered,
            slots_total: 4,
            slots_processing: 2,
            instances: 1,
        };
        Timeline { step_seconds: 10.0, points: queued.iter().map(point).collect() }
    }

    #[test]
    fn each_column_is_the_greatest_of_its_moments() {
        let mut history = History::default();
        history.tell(Some(&timeline(&[9, 1, 2, 3, 4, 5, 1])));
        assert_eq!(history.columns(3, |moment| moment.queued), [Some(9), Some(3), Some(5)]);
        assert_eq!(history.columns(7, |moment| moment.queued).len(), 7);
        assert_eq!(history.columns(8, |moment| moment.queued)[..2], [None, Some(9)]);
        assert_eq!(history.columns(2, |moment| moment.used), [Some(2), Some(2)]);
        assert_eq!(history.columns(0, |moment| moment.used), []);
        assert_eq!(history.reach(), "last 1 min 10 s");
    }

    #[test]
    fn without_the_balancers_memory_there_is_our_own() {
        let mut history = History::default();
        history.tell(None);
        assert_eq!(history.columns(2, |moment| moment.queued), [None, None]);
        history.saw(&sample::at_zero());
        history.saw(&sample::busy());
        assert_eq!(history.columns(3, |moment| moment.queued), [None, Some(0), Some(12)]);
        assert_eq!(history.columns(3, |moment| moment.used), [None, Some(0), Some(8)]);
        assert_eq!(history.reach(), "seen so far");
        history.tell(Some(&timeline(&[])));
        assert_eq!(history.columns(1, |moment| moment.queued), [Some(12)]);
        for _ in 0..OWN_MAX + 10 {
            history.saw(&sample::at_zero());
        }
        assert_eq!(history.own.len(), OWN_MAX);
    }
}
