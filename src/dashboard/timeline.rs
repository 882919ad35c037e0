//! The last hour in even steps, as it is watched.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Point, Timeline};
use crate::clock::Clock;
use crate::core::Now;
use crate::core::snapshot::Load;
use crate::gate::Gate;

/// From one point to the next.
const STEP: Duration = Duration::from_secs(10);

/// An hour.
const POINTS_MAX: usize = 360;

/// How often the gate is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The last hour, for whoever asks.
#[derive(Debug, Default)]
pub struct LastHour {
    steps: Mutex<Steps>,
}

impl LastHour {
    /// Looks each second, for as long as it is polled.
    pub async fn watch(&self, gate: &Gate, clock: Clock) {
        let queue = gate.watch_queue();
        loop {
            let queued = queue.take_peak().queued;
            self.steps().note(clock.now(), queued, gate.load());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// What was seen, but for the step that is not over.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let points = self.steps().points.iter().copied().collect();
        Timeline { step_seconds: STEP.as_secs_f64(), points }
    }

    fn steps(&self) -> std::sync::MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Steps that are over, and the one that is not. One in which nobody looked, because the machine slept, is missing.
#[derive(Debug, Default)]
struct Steps {
    points: VecDeque<Point>,
    present: Option<(u128, Point)>,
}

impl Steps {
    /// A look: the most that waited since the one before, and what there is now.
    fn note(&mut self, now: Now, queued: usize, load: Load) {
        let number = now.mono.0.as_millis() / STEP.as_millis();
        let before = self.present.take();
        let mut point = match before {
            Some((of, point)) if of == number => point,
            Some((_, over)) => {
                if self.points.len() == POINTS_MAX {
                    self.points.pop_front();
                }
                self.points.push_back(over);
                Point::default()
            }
            None => Point::default(),
        };
        let into_step = Duration::from_nanos((now.mono.0.as_nanos() % STEP.as_nanos()) as u64);
        point.at_seconds = (now.wall + (STEP - into_step)).as_secs_f64();
        point.requests_buffered = point.requests_buffered.max(queued);
        point.slots_total = load.slots_total;
        point.slots_processing = point.slots_processing.max(load.slots_processing);
        point.instances = load.instances;
        self.present = Some((number, point));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Mono;

    /// The process began in the middle of a second of the wall's.
    const BEGAN: Duration = Duration::from_millis(1_800_000_000_500);

    fn at(milliseconds: u64) -> Now {
        let mono = Duration::from_millis(milliseconds);
        Now { mono: Mono(mono), wall: BEGAN + mono }
    }

    fn load(slots_total: u32, slots_processing: u32, instances: usize) -> Load {
        Load { slots_total, slots_processing, instances }
    }

    #[test]
    fn a_step_is_its_maxima_and_its_end() {
        let mut steps = Steps::default();
        steps.note(at(100), 0, load(0, 0, 0));
        steps.note(at(1100), 7, load(0, 0, 1));
        steps.note(at(5000), 2, load(4, 4, 1));
        steps.note(at(9999), 0, load(4, 1, 2));
        assert_eq!(steps.points, [], "it is not over");
        steps.note(at(10_000), 3, load(8, 2, 2));
        let over = Point {
            at_seconds: 1_800_000_010.5,
            requests_buffered: 7,
            slots_total: 4,
            slots_processing: 4,
            instances: 2,
        };
        assert_eq!(steps.points, [over]);
        steps.note(at(20_000), 0, load(0, 0, 0));
        let next = Point {
            at_seconds: 1_800_000_020.5,
            requests_buffered: 3,
            slots_total: 8,
            slots_processing: 2,
            instances: 2,
        };
        assert_eq!(steps.points, [over, next], "nothing of a step is left in the next one");
    }

    #[test]
    fn an_hour_is_kept() {
        let mut steps = Steps::default();
        for second in 0..2 * 3600 {
            steps.note(at(second * 1000), second as usize, load(1, 0, 1));
        }
        assert_eq!(steps.points.len(), 360);
        let ends: Vec<f64> = steps.points.iter().map(|point| point.at_seconds - 1_800_000_000.5).collect();
        assert_eq!((ends[0], ends[359]), (3600.0, 7190.0));
        assert!(ends.windows(2).all(|pair| pair[1] - pair[0] == 10.0), "{ends:?}");
        assert_eq!(steps.points[359].requests_buffered, 7189);
    }

    #[test]
    fn what_was_slept_through_is_missing() {
        let mut steps = Steps::default();
        steps.note(at(0), 1, load(1, 0, 1));
        steps.note(at(95_000), 2, load(1, 0, 1));
        steps.note(at(100_000), 3, load(1, 0, 1));
        let seen: Vec<_> = steps
            .points
            .iter()
            .map(|point| (point.at_seconds - 1_800_000_000.5, point.requests_buffered))
            .collect();
        assert_eq!(seen, [(10.0, 1), (100.0, 2)]);
    }
}
