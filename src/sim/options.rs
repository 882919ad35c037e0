//! What a seed chooses before its world begins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::{Config, Day, Looks, Money, Mono, PoolConfig, PoolId, Price};

/// Report delays stay below what the core allows for.
const NETWORK_MAX: Duration = Duration::from_millis(200);

/// The world of one seed.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of everything random.
    pub seed: u64,
    /// The core's limits.
    pub core: Config,
    /// Each pool, by its number.
    pub pools: Vec<PoolOptions>,
    /// How many tenants share the gateway.
    pub tenants: u32,
    /// The longest way of a report.
    pub network_max: Duration,
    /// How late the shell calls back when the core asked to be called.
    pub timer_late: Duration,
    /// Faults come this often, until they heal.
    pub fault_every: Duration,
    /// When everything heals.
    pub heal_at: Mono,
    /// When the gateway begins to shut down.
    pub shutdown_at: Option<Mono>,
    /// The most requests of a burst.
    pub burst_max: u32,
    /// The longest lull between bursts.
    pub lull_max: Duration,
    /// In thousandths: requests for several slots, requests for none, clients that leave.
    pub many_permille: u32,
    /// See `many_permille`.
    pub none_permille: u32,
    /// See `many_permille`.
    pub leave_permille: u32,
    /// See `many_permille`: clients that wait no longer than they say.
    pub deadline_permille: u32,
    /// The longest decoding.
    pub decode_max: Duration,
    /// Cycles from zero to zero, one request each, in place of bursts.
    pub cycles: u32,
    /// What the wall clock shows at the begin.
    pub wall_start: Duration,
    /// So long a time of calm load, in which the balancer is restarted now and then, in place of all the others.
    pub month: Option<Duration>,
}

/// One pool and what serves it.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// The core's view.
    pub config: PoolConfig,
    /// Slots of each server.
    pub slots: u32,
    /// Servers that no fleet started.
    pub statics: u32,
    /// Whether the fleet names what a wake launched, as one of processes does, or only shows it later.
    pub fleet_names_launches: bool,
    /// How often the fleet is looked at.
    pub observe_every: Duration,
    /// The longest answer of the fleet.
    pub operation_max: Duration,
    /// The longest a launched instance stays out of sight.
    pub visible_after_max: Duration,
    /// From launch to health.
    pub boot_min: Duration,
    /// From launch to health, at most.
    pub boot_max: Duration,
    /// In thousandths: operations and launches that go wrong before the heal.
    pub trouble_permille: u32,
    /// How often agents report.
    pub report_every: Duration,
    /// Paddler 1.x: no heartbeat, no age, no instance.
    pub agents_are_old: bool,
}

impl Options {
    /// What this seed chooses.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rng = &mut rng;
        let heal = seconds(rng, 60, 400);
        let mut own = fastrand::Rng::with_seed(seed ^ 0xb0d6e7);
        let mut pools: Vec<PoolOptions> =
            (0..if one_in(rng, 4) { 2 } else { 1 }).map(|_| PoolOptions::random(rng)).collect();
        // Some pools have prices and a budget of some minutes of an instance.
        for pool in &mut pools {
            if !one_in(&mut own, 5) {
                continue;
            }
            let price = Price::from_usd(3.6);
            pool.config.prices = price.into_iter().cycle().take(pool.config.groups as usize).collect();
            pool.config.budget_per_day = Money::from_usd(f64::from(own.u32(30..900)) / 1000.0);
        }
        Self {
            seed,
            core: Config {
                queue_max: *choice(rng, &[0, 1, 3, 10, 30, 100, 1000]),
                wait_max: *choice(rng, &[1, 5, 20, 60, 120, 300].map(Duration::from_secs)),
                bypass_max: *choice(rng, &[0, 200, 1000, 5000].map(Duration::from_millis)),
                seed: rng.u64(..),
            },
            pools,
            tenants: rng.u32(1..=2),
            network_max: *choice(rng, &[Duration::ZERO, Duration::from_millis(20), NETWORK_MAX]),
            timer_late: *choice(rng, &[0, 0, 1, 20].map(Duration::from_millis)),
            fault_every: *choice(rng, &[1, 3, 10, 30, 1000].map(Duration::from_secs)),
            heal_at: Mono(heal),
            shutdown_at: one_in(rng, 6).then(|| Mono(heal.mul_f64(rng.f64()))),
            burst_max: *choice(rng, &[1, 4, 12, 30]),
            lull_max: *choice(rng, &[2, 10, 40, 90].map(Duration::from_secs)),
            many_permille: *choice(rng, &[0, 0, 100, 300]),
            none_permille: *choice(rng, &[0, 0, 100]),
            leave_permille: *choice(rng, &[0, 50, 300]),
            decode_max: *choice(rng, &[100, 1000, 8000].map(Duration::from_millis)),
            cycles: 0,
            deadline_permille: *choice(rng, &[0, 100, 300]),
            // Midnight comes while faults happen, or does not.
            wall_start: Day(20_781).end() - heal.mul_f64(own.f64() * 1.5),
            month: None,
        }
    }

    /// The core's view of each pool.
    #[must_use]
    pub fn pool_configs(&self) -> BTreeMap<PoolId, PoolConfig> {
        (0..).map(PoolId).zip(self.pools.iter().map(|pool| pool.config.clone())).collect()
    }

    /// A month of calm load, with restarts of the balancer, from the middle of one month to that of the next. Its days may
    /// cost so many seconds of an instance.
    #[must_use]
    pub fn month(seed: u64, is_of_groups: bool, seconds_per_day: Option<u64>) -> Self {
        let mut options = Self::cycles(seed, 0, is_of_groups);
        let pool = &mut options.pools[0];
        pool.config.instances_max = 3;
        pool.config.groups = if is_of_groups { 2 } else { 1 };
        pool.config.idle_timeout = Duration::from_secs(120);
        pool.config.life_min = Duration::from_secs(60);
        pool.config.prices =
            [3.6, 7.2].into_iter().filter_map(Price::from_usd).take(pool.config.groups as usize).collect();
        pool.config.budget_per_day =
            seconds_per_day.and_then(|seconds| Money::from_usd(seconds as f64 / 1000.0));
        pool.slots = 2;
        pool.visible_after_max = Duration::ZERO;
        pool.report_every = Duration::from_secs(10);
        options.timer_late = Duration::ZERO;
        options.decode_max = Duration::from_secs(40);
        options.many_permille = 0;
        options.none_permille = 0;
        options.deadline_permille = 0;
        options.burst_max = 12;
        options.wall_start = Day(20_772).start() + Duration::from_secs(1234);
        options.month = Some(Duration::from_secs(31 * 24 * 3600));
        options
    }

    /// A calm world, in which a request arrives whenever the fleet, one of processes or an Auto Scaling group, is at zero,
    /// so many times.
    #[must_use]
    pub fn cycles(seed: u64, cycles: u32, is_of_groups: bool) -> Self {
        let mut options = Self::from_seed(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pool = PoolOptions::random(&mut rng);
        pool.config.has_fleet = true;
        pool.config.instances_min = 0;
        pool.config.instances_max = 1;
        pool.statics = 0;
        pool.trouble_permille = 0;
        pool.config.boot_timeout = Duration::from_secs(120);
        pool.config.groups = 1;
        pool.config.looks =
            is_of_groups.then_some(Looks { hurry: Duration::from_secs(5), rest: Duration::from_secs(60) });
        pool.fleet_names_launches = !is_of_groups;
        pool.agents_are_old = false;
        pool.boot_max = pool.boot_min + Duration::from_secs(5);
        options.pools = vec![pool];
        options.core.queue_max = 10;
        options.core.wait_max = Duration::from_secs(300);
        options.heal_at = Mono::default();
        options.shutdown_at = None;
        options.leave_permille = 0;
        options.cycles = cycles;
        options
    }
}

impl PoolOptions {
    fn random(rng: &mut fastrand::Rng) -> Self {
        let has_fleet = !one_in(rng, 5);
        let instances_max = if one_in(rng, 25) { 0 } else { rng.u32(1..=4) };
        let instances_min = if one_in(rng, 4) { rng.u32(0..=instances_max) } else { 0 };
        let boot_min = seconds(rng, 1, 30);
        let boot_max = boot_min + seconds(rng, 0, 30);
        let slots = rng.u32(1..=8);
        let is_of_groups = has_fleet && one_in(rng, 2);
        let looks = Looks { hurry: seconds(rng, 1, 6), rest: seconds(rng, 5, 60) };
        Self {
            config: PoolConfig {
                has_fleet,
                instances_min,
                instances_max,
                slots_hint: if one_in(rng, 2) { slots } else { 1 },
                idle_timeout: *choice(rng, &[0, 1, 5, 30, 120].map(Duration::from_secs)),
                // A launch is told, shown and heard within this after its boot.
                boot_timeout: boot_max + seconds(rng, 25, 90),
                life_min: *choice(rng, &[0, 5, 60].map(Duration::from_secs)),
                groups: if is_of_groups { rng.u32(1..=2) } else { 1 },
                looks: is_of_groups.then_some(looks),
                prices: Arc::default(),
                budget_per_day: None,
            },
            slots,
            statics: if has_fleet { u32::from(instances_min == 0 && one_in(rng, 8)) } else { rng.u32(0..=3) },
            fleet_names_launches: !is_of_groups && one_in(rng, 2),
            observe_every: seconds(rng, 1, 6),
            operation_max: *choice(rng, &[0, 200, 3000].map(Duration::from_millis)),
            visible_after_max: *choice(rng, &[0, 0, 5].map(Duration::from_secs)),
            boot_min,
            boot_max,
            trouble_permille: *choice(rng, &[0, 0, 100, 300, 700]),
            report_every: *choice(rng, &[500, 1000, 5000, 10_000].map(Duration::from_millis)),
            // Groups do not tell addresses, so an agent without a name could only be guessed at.
            agents_are_old: one_in(rng, 4) && !is_of_groups,
        }
    }

    /// Whether anything can ever serve it.
    #[must_use]
    pub fn can_serve(&self) -> bool {
        self.statics > 0 || (self.config.has_fleet && self.config.instances_max > 0)
    }
}

fn one_in(rng: &mut fastrand::Rng, n: u32) -> bool {
    rng.u32(0..n) == 0
}

fn seconds(rng: &mut fastrand::Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.u64(least * 1000..=most * 1000))
}

fn choice<'a, T>(rng: &mut fastrand::Rng, of: &'a [T]) -> &'a T {
    &of[rng.usize(0..of.len())]
}
