//! How long starts and answers take: measured, and asked for when something must be foretold.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{BootAges, InstanceState};
use super::ids::{InstanceId, Mono};
use super::scaling::Launch;

/// Boots that are remembered: enough for a median, few enough to follow a change of image or model.
const BOOTS_KEPT: usize = 32;
/// What a boot is taken to last before one was seen.
pub(super) const BOOT_ASSUMED: Duration = Duration::from_secs(60);
/// The least that is left of a boot that takes longer than most.
const BOOT_LEFT_MIN: Duration = Duration::from_secs(1);
/// The weight of the latest answer in the mean, as a divisor.
const SERVICE_SMOOTHING: u32 = 5;

/// The parts of a boot, in their order. Each ends with what its comment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootPhase {
    /// The fleet launched the machine.
    Call,
    /// Its kernel came up.
    Pending,
    /// Its agent started.
    Boot,
    /// Its llama.cpp answered.
    Service,
    /// Its llama.cpp had loaded the model.
    Load,
    /// Its slots were known here.
    Register,
}

impl BootPhase {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Call, Self::Pending, Self::Boot, Self::Service, Self::Load, Self::Register];
}

/// How long each phase of a boot took, in their order. One whose end is not known is part of the next one that is.
pub type BootPhases = [Option<Duration>; BootPhase::ALL.len()];

/// When the steps of one boot were, as far as is known.
#[derive(Debug, Clone)]
pub(super) struct BootLog {
    /// When it was asked for.
    called: Mono,
    /// When the fleet took the call.
    accepted: Option<Mono>,
    /// When the fleet first showed it, and when it first called it running.
    pending_seen: Option<Mono>,
    running_seen: Option<Mono>,
    /// What the machine itself says.
    launched: Option<Mono>,
    kernel: Option<Mono>,
    agent: Option<Mono>,
    answered: Option<Mono>,
    loaded: Option<Mono>,
    registered: Option<Mono>,
}

impl BootLog {
    pub(super) fn new(launch: &Launch) -> Self {
        Self {
            called: launch.started_at,
            accepted: launch.accepted_at,
            pending_seen: None,
            running_seen: None,
            launched: None,
            kernel: None,
            agent: None,
            answered: None,
            loaded: None,
            registered: None,
        }
    }

    /// The fleet shows the instance.
    pub(super) fn saw(&mut self, state: &InstanceState, now: Mono) {
        self.pending_seen.get_or_insert(now);
        if *state == InstanceState::Running {
            self.running_seen.get_or_insert(now);
        }
    }

    /// The machine's own words, which are kept as they first were: they are ages, so each report's differ by a little.
    pub(super) fn heard(&mut self, ages: BootAges, now: Mono) {
        let steps = [
            (&mut self.launched, ages.launched),
            (&mut self.kernel, ages.kernel),
            (&mut self.agent, ages.agent),
            (&mut self.answered, ages.answered),
            (&mut self.loaded, ages.loaded),
        ];
        for (step, age) in steps {
            if step.is_none() {
                *step = age.map(|age| now - age);
            }
        }
    }

    pub(super) fn registered(&mut self, at: Mono) {
        self.registered.get_or_insert(at);
    }

    /// When each phase ended. What the machine does not say is taken from what the fleet showed.
    fn ends(&self) -> [Option<Mono>; 6] {
        [
            self.launched.or(self.pending_seen).or(self.accepted),
            self.kernel.or(self.running_seen),
            self.agent,
            self.answered,
            self.loaded,
            self.registered,
        ]
    }

    /// How long each phase took. One whose end is not known is part of the next one that is.
    pub(super) fn phases(&self) -> BootPhases {
        let mut before = self.called;
        self.ends().map(|end| {
            let end = end?.max(before);
            let took = end.since(before);
            before = end;
            Some(took)
        })
    }

    /// The first phase that has not ended, by its place, and since when it lasts.
    pub(super) fn step(&self) -> (usize, Mono) {
        let ends = self.ends();
        let known = ends.iter().rposition(Option::is_some);
        let since = ends.into_iter().flatten().max().unwrap_or(self.called).max(self.called);
        (known.map_or(0, |at| at + 1).min(BootPhase::ALL.len() - 1), since)
    }
}

/// One boot that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boot {
    pub(super) instance: InstanceId,
    pub(super) phases: [Duration; 6],
}

impl Boot {
    /// From this phase to the end.
    fn rest(&self, from: usize) -> Duration {
        self.phases.iter().skip(from).sum()
    }

    pub(super) fn total(&self) -> Duration {
        self.rest(0)
    }
}

/// The last boots of a pool, from the wake to the first slot.
#[derive(Debug, Default)]
pub(super) struct BootTimes {
    last: VecDeque<Boot>,
}

impl BootTimes {
    pub(super) fn add(&mut self, instance: InstanceId, log: &BootLog) {
        if self.last.len() == BOOTS_KEPT {
            self.last.pop_front();
        }
        let phases = log.phases().map(Option::unwrap_or_default);
        self.last.push_back(Boot { instance, phases });
    }

    /// The boots that are remembered, the latest last.
    pub(super) fn last(&self) -> impl Iterator<Item = &Boot> {
        self.last.iter()
    }

    /// The time that a share of the last boots (in thousandths) was done in; none before one was seen.
    pub(super) fn quantile(&self, permille: usize) -> Option<Duration> {
        self.quantile_from(0, permille)
    }

    /// The same, from the begin of a phase on.
    fn quantile_from(&self, phase: usize, permille: usize) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.last.iter().map(|boot| boot.rest(phase)).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * permille).div_ceil(1000).max(1);
        sorted.get(rank - 1).copied()
    }

    /// How much longer a boot takes that is in this phase since then: by the median, and for a slow one by the 9th
    /// decile.
    pub(super) fn left(&self, (phase, since): (usize, Mono), now: Mono) -> Duration {
        let elapsed = now.since(since);
        let median = self.quantile_from(phase, 500).unwrap_or(BOOT_ASSUMED);
        let slow = self.quantile_from(phase, 900).unwrap_or(BOOT_ASSUMED);
        let whole = if elapsed < median { median } else { slow };
        whole.saturating_sub(elapsed).max(BOOT_LEFT_MIN)
    }
}

/// How long a slot is taken by one answer: a moving mean.
#[derive(Debug, Default)]
pub(super) struct ServiceTime {
    mean: Option<Duration>,
}

impl ServiceTime {
    pub(super) fn add(&mut self, took: Duration) {
        self.mean = Some(match self.mean {
            None => took,
            Some(mean) => (mean * (SERVICE_SMOOTHING - 1) + took) / SERVICE_SMOOTHING,
        });
    }

    pub(super) fn estimate(&self) -> Option<Duration> {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::super::groups::Origin;
    use super::super::ids::GroupId;
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn called_at(seconds: u64) -> BootLog {
        BootLog::new(&Launch::by_itself(GroupId(0), Origin::Asked, at(seconds)))
    }

    fn times(seconds: &[u64]) -> BootTimes {
        let mut times = BootTimes::default();
        for &s in seconds {
            let mut log = called_at(0);
            log.registered(at(s));
            times.add("a".into(), &log);
        }
        times
    }

    #[test]
    fn quantiles_are_of_boots_that_were_seen() {
        assert_eq!(times(&[]).quantile(500), None);
        assert_eq!(times(&[7]).quantile(500), Some(secs(7)));
        assert_eq!(times(&[9, 1, 5]).quantile(500), Some(secs(5)));
        assert_eq!(times(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).quantile(900), Some(secs(9)));
    }

    #[test]
    fn old_boots_are_forgotten() {
        let mut times = times(&[100; BOOTS_KEPT]);
        for _ in 0..BOOTS_KEPT {
            let mut log = called_at(0);
            log.registered(at(1));
            times.add("a".into(), &log);
        }
        assert_eq!(times.quantile(900), Some(secs(1)));
    }

    #[test]
    fn what_is_left_shrinks_and_never_ends_before_the_boot() {
        let times = times(&[10, 10, 10, 30, 30]);
        let left = |elapsed: u64| times.left((0, at(0)), at(elapsed));
        assert_eq!(left(0), secs(10));
        assert_eq!(left(4), secs(6));
        assert_eq!(left(15), secs(15), "a slow one");
        assert_eq!(left(99), BOOT_LEFT_MIN);
        assert_eq!(BootTimes::default().left((0, at(0)), at(0)), BOOT_ASSUMED);
    }

    /// Asked for at 100 s, launched at 105, up at 125, agent at 130, llama.cpp at 131, model at 161, slots at 162.
    fn a_boot() -> BootLog {
        let mut log = called_at(100);
        log.saw(&InstanceState::Pending, at(107));
        log.saw(&InstanceState::Running, at(127));
        let ages = BootAges {
            launched: Some(secs(25)),
            kernel: Some(secs(5)),
            agent: Some(secs(0)),
            answered: None,
            loaded: None,
        };
        log.heard(ages, at(130));
        log
    }

    #[test]
    fn a_boot_is_kept_as_phases() {
        let mut log = a_boot();
        assert_eq!(log.step(), (3, at(130)), "the service starts");
        let later = BootAges { answered: Some(secs(31)), loaded: Some(secs(1)), ..BootAges::default() };
        log.heard(later, at(162));
        log.registered(at(162));
        let phases = log.phases().map(Option::unwrap_or_default);
        assert_eq!(phases.map(|phase| phase.as_secs()), [5, 20, 5, 1, 30, 1]);
        assert_eq!(phases.iter().sum::<Duration>(), secs(62));
    }

    #[test]
    fn what_the_machine_does_not_say_the_fleet_shows() {
        let mut log = called_at(100);
        log.saw(&InstanceState::Pending, at(107));
        assert_eq!(log.step(), (1, at(107)));
        log.saw(&InstanceState::Running, at(127));
        log.registered(at(160));
        let phases = log.phases().map(|phase| phase.map(|phase| phase.as_secs()));
        assert_eq!(phases, [Some(7), Some(20), None, None, None, Some(33)]);
    }

    #[test]
    fn times_that_contradict_each_other_make_no_negative_phase() {
        let mut log = called_at(100);
        // A clock that is ahead: launched before it was asked for.
        log.heard(
            BootAges { launched: Some(secs(50)), kernel: Some(secs(5)), ..BootAges::default() },
            at(110),
        );
        log.registered(at(120));
        let phases = log.phases().map(Option::unwrap_or_default).map(|phase| phase.as_secs());
        assert_eq!(phases, [0, 5, 0, 0, 0, 15]);
    }

    #[test]
    fn what_is_left_follows_the_phase_that_was_reached() {
        let mut times = BootTimes::default();
        let mut log = a_boot();
        log.heard(
            BootAges { answered: Some(secs(31)), loaded: Some(secs(1)), ..BootAges::default() },
            at(162),
        );
        log.registered(at(162));
        times.add("a".into(), &log);
        assert_eq!(times.left((0, at(0)), at(0)), secs(62));
        // A boot that was slow so far still has to load for as long as the others.
        assert_eq!(times.left((4, at(500)), at(500)), secs(31));
        assert_eq!(times.left((4, at(500)), at(510)), secs(21));
    }

    #[test]
    fn the_mean_follows_the_latest_answers() {
        let mut service = ServiceTime::default();
        assert_eq!(service.estimate(), None);
        service.add(Duration::from_secs(10));
        assert_eq!(service.estimate(), Some(Duration::from_secs(10)));
        service.add(Duration::ZERO);
        assert_eq!(service.estimate(), Some(Duration::from_secs(8)));
    }
}
