//! AWS on loopback: Auto Scaling and CloudWatch behind one endpoint, instances that run a llama.cpp and a real agent,
//! and each instance's metadata.
//!
//! What it imitates is cited by page name where it is done, or is called *assumed*. Groups decide (`group.rs` and
//! what belongs to it, pure), machines act; one task ticks. What only a test can ask for goes through [`FakeAws`] and
//! [`GroupHandle`]. Its controls by topic: docs/testing.md.
//!
//! ```ignore
//! let (aws, group) = FakeAws::with_group(GroupConfig::default()).await;
//! let paddock = Paddock::start_in(&aws.environment(), &["--asg-name", "gpu"]).await;
//! group.change(|config| config.machine.agent = AgentConfig::reporting_to(paddock.management()));
//! aws.inject(Some("SetDesiredCapacity"), Fault::AnswerLost, Some(1));
//! // … requests …
//! assert!(aws.harm().is_empty(), "{:?}", aws.harm());
//! ```

mod activity;
mod autoscaling;
mod calls;
mod cloudwatch;
mod config;
mod ending;
mod failure;
mod faults;
mod group;
mod handle;
mod imds;
mod instance;
mod launch;
mod lifecycle;
mod machine;
mod metrics;
mod query;
mod server;
mod view;
mod warm;
mod wording;
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paddock::clock::Clock;
use paddock::core::Mono;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::{CancellationToken, DropGuard};

#[allow(unused_imports, reason = "shared with the benches: each uses a part")]
pub use self::{
    activity::{Activity, Status},
    calls::{Call, Outcome},
    cloudwatch::{Datum, Statistics},
    config::{
        AgentConfig, External, FakeAwsConfig, GroupConfig, Hook, HookResult, LlamaConfig, MachineConfig,
        Market, Times, Transition,
    },
    failure::LaunchFailure,
    faults::Fault,
    group::Lowering,
    handle::GroupHandle,
    imds::{Imds, Metadata},
    instance::{EndedBy, Instance},
    launch::Fate,
    lifecycle::Lifecycle,
    machine::Machine,
};

use calls::Calls;
use faults::Faults;
use group::Effect;
use machine::Addresses;
use metrics::Metrics;
use world::World;

const ACCOUNT: &str = "123456789012";
const ACCESS_KEY: &str = "AKIAFAKEFAKEFAKEFAKE";
const SECRET_KEY: &str = "fake-secret-key-of-nobody";
/// Who calls, as AWS names them in its refusals.
const CALLER: &str = "arn:aws:sts::123456789012:assumed-role/paddock/i-0fedcba9876543210";
/// Between two looks at what is due: short against every time in [`Times`].
const TICK: Duration = Duration::from_millis(5);

/// A machine that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub id: String,
    pub group: String,
    pub by: EndedBy,
    /// Slots of its llama.cpp that were asked for in that moment.
    pub busy: usize,
    pub at: Mono,
}

/// What the endpoint, the ticks and the tests share.
#[derive(Debug)]
struct Shared {
    clock: Clock,
    region: String,
    endpoint: String,
    world: Mutex<World>,
    calls: Calls,
    faults: Faults,
    metrics: Metrics,
    machines: Mutex<BTreeMap<String, Arc<Machine>>>,
    ended: Mutex<Vec<Ended>>,
    /// Machines that are to boot without an agent, by group.
    silent_boots: Mutex<BTreeMap<String, u32>>,
    addresses: Addresses,
}

impl Shared {
    /// Changes the world and acts at once on what its groups want.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut World) -> T) -> T {
        let (result, effects) = {
            let mut world = self.world.lock().unwrap();
            let result = change(&mut world);
            let effects = world.effects();
            let configs = effects.into_iter().map(|(group, effect)| {
                let config = world.groups[&group].config.clone();
                (config, effect)
            });
            (result, configs.collect::<Vec<_>>())
        };
        for (config, effect) in effects {
            self.act(&config, effect);
        }
        result
    }

    fn act(self: &Arc<Self>, config: &GroupConfig, effect: Effect) {
        match effect {
            Effect::Boot { id, zone, target } => {
                let is_silent = match self.silent_boots.lock().unwrap().get_mut(&config.name) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        true
                    }
                    _ => false,
                };
                let metadata = self.metadata(config, &id, zone, target);
                let machine = Machine::boot(self, config, is_silent, metadata);
                self.machines.lock().unwrap().insert(id, machine);
            }
            Effect::Target { id, target } => {
                if let Some(machine) = self.machines.lock().unwrap().get(&id) {
                    machine.imds().change(|data| data.target_lifecycle_state = Some(target.to_owned()));
                }
            }
            Effect::Stop { id } => {
                let machine = self.machines.lock().unwrap().get(&id).cloned();
                if let Some(machine) = machine {
                    machine.stop(config.times.kill_grace);
                }
            }
            Effect::Kill { id, by } => {
                // None is there when the fake is being dropped.
                let machine = self.machines.lock().unwrap().get(&id).cloned();
                if let Some(machine) = machine {
                    machine.kill(self, by, config.times.kill_grace);
                }
            }
        }
    }

    fn metadata(&self, config: &GroupConfig, id: &str, zone: String, target: &str) -> Metadata {
        let mut tags = config.tags.clone();
        tags.insert("aws:autoscaling:groupName".to_owned(), config.name.clone());
        Metadata {
            instance_id: id.to_owned(),
            region: self.region.clone(),
            zone,
            local_ipv4: self.addresses.next(),
            ipv6: config.machine.ipv6,
            instance_type: config.instance_type.clone(),
            launched: self.clock.now(),
            target_lifecycle_state: Some(target.to_owned()),
            spot_action: None,
            rebalance: None,
            tags: config.has_tags_in_metadata.then_some(tags),
        }
    }

    fn launch_call(&self, group: Option<&str>) -> Duration {
        let world = self.world.lock().unwrap();
        let group = group.and_then(|name| world.groups.get(name));
        group.map_or(Duration::ZERO, |group| group.config.times.launch_call)
    }

    fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// A running fake. Dropping it stops it, with all machines.
#[derive(Debug)]
pub struct FakeAws {
    shared: Arc<Shared>,
    addr: SocketAddr,
    _stop: DropGuard,
}

impl FakeAws {
    /// Listens on a free port of loopback.
    pub async fn start(config: FakeAwsConfig) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            clock: Clock::start(),
            region: config.region.clone(),
            endpoint: format!("http://{addr}"),
            world: Mutex::new(World::new(&config)),
            calls: Calls::default(),
            faults: Faults::default(),
            metrics: Metrics::default(),
            machines: Mutex::default(),
            ended: Mutex::default(),
            silent_boots: Mutex::default(),
            addresses: Addresses::default(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(server::accept(listener, Arc::clone(&shared), stop.clone()));
        tokio::spawn(tick(Arc::clone(&shared), stop.clone()));
        Self { shared, addr, _stop: stop.drop_guard() }
    }

    /// One group of this shape, and its handle.
    pub async fn with_group(config: GroupConfig) -> (Self, GroupHandle) {
        let name = config.name.clone();
        let fake = Self::start(FakeAwsConfig::of(config)).await;
        let group = fake.group(&name);
        (fake, group)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn endpoint(&self) -> String {
        self.shared.endpoint.clone()
    }

    /// The clock by which calls, metrics and ends are dated.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// For the balancer's process: this endpoint, this Region, these credentials, nobody's files, and no metadata.
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut environment = self.shared.environment();
        environment.push(("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()));
        environment
    }

    /// A configuration for the SDK's clients in this process.
    pub async fn sdk_config(&self) -> aws_config::SdkConfig {
        let key = aws_sdk_autoscaling::config::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "fake");
        aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new(self.shared.region.clone()))
            .endpoint_url(self.endpoint())
            .credentials_provider(key)
            .load()
            .await
    }

    pub fn group(&self, name: &str) -> GroupHandle {
        assert!(self.shared.world.lock().unwrap().groups.contains_key(name), "no group {name}");
        GroupHandle { shared: Arc::clone(&self.shared), name: name.to_owned() }
    }

    /// The next `times` calls of `action` go wrong; `None` for every action, `None` for until
    /// [`FakeAws::clear_faults`].
    pub fn inject(&self, action: Option<&str>, fault: Fault, times: Option<u32>) {
        self.shared.faults.add(action, fault, times);
    }

    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Every call so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.all()
    }

    /// The calls of one action.
    pub fn calls_of(&self, action: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.action == action).collect()
    }

    /// Everything that was put to CloudWatch, oldest first.
    pub fn metrics(&self) -> Vec<Datum> {
        self.shared.metrics.all()
    }

    /// What was put under one name.
    pub fn metric(&self, name: &str) -> Vec<Datum> {
        self.metrics().into_iter().filter(|datum| datum.name == name).collect()
    }

    /// Machines that ended, in that order.
    pub fn ended(&self) -> Vec<Ended> {
        self.shared.ended.lock().unwrap().clone()
    }

    /// Machines that ended while their llama.cpp was asked for something, by whomever.
    pub fn busy_killed(&self) -> Vec<Ended> {
        self.ended().into_iter().filter(|ended| ended.busy > 0).collect()
    }

    /// What no caller may ever do: busy machines that a call ended, and desired capacities lowered by number below
    /// what was there.
    pub fn harm(&self) -> Vec<String> {
        let busy = self.busy_killed().into_iter().filter(|ended| ended.by.is_by_call());
        let busy = busy.map(|ended| format!("{} was ended while busy: {ended:?}", ended.id));
        let world = self.shared.world.lock().unwrap();
        let lowered = world.groups.values().flat_map(|group| group.lowerings.iter());
        let lowered = lowered.filter(|lowering| !lowering.is_withdrawal());
        busy.chain(lowered.map(|lowering| format!("lowered by number: {lowering:?}"))).collect()
    }
}

impl Drop for FakeAws {
    /// The handles that a test still has keep no machine alive.
    fn drop(&mut self) {
        self.shared.machines.lock().unwrap().clear();
    }
}

async fn tick(shared: Arc<Shared>, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {
                let now = shared.clock.now();
                shared.change(|world| world.tick(now));
            }
        }
    }
}
