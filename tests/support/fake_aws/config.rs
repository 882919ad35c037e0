//! What a test chooses: the groups, how their machines are, and how long everything takes.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::support::fake_llama::FakeConfig;
use crate::support::real_llama::RealOptions;

/// How a fake AWS is.
#[derive(Debug, Clone)]
pub struct FakeAwsConfig {
    pub region: String,
    pub groups: Vec<GroupConfig>,
}

impl Default for FakeAwsConfig {
    fn default() -> Self {
        Self { region: "us-east-1".to_owned(), groups: vec![GroupConfig::default()] }
    }
}

impl FakeAwsConfig {
    /// One group.
    pub fn of(group: GroupConfig) -> Self {
        Self { groups: vec![group], ..Self::default() }
    }
}

/// How long things take: short here, and what AWS takes beside it.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// From a launch until the instance runs, which without a launching hook is when it comes into service.
    /// AWS: about 18 s (m7i.large, 2026), 30 s and more for GPU instances.
    pub pending: Duration,
    /// From running until llama.cpp and the agent are started. AWS: 5 to 30 s, by the image.
    pub boot: Duration,
    /// How long llama.cpp answers `503 Loading model` from then on. AWS: 5 to 60 s, by model and disk.
    pub load: Duration,
    /// How long an instance that is to end is `Terminating` before a hook holds it. AWS: seconds (*assumed*).
    pub hook: Duration,
    /// How old is what `DescribeAutoScalingGroups` and `DescribeAutoScalingInstances` tell. AWS: up to seconds
    /// (*assumed*).
    pub describe_lag: Duration,
    /// How long `:Proceed` is seen after a launching hook. AWS: seconds (*assumed*).
    pub proceed: Duration,
    /// From an instance's end until its group forgets it. AWS: half a minute to minutes.
    pub terminating: Duration,
    /// Until the group sees that an instance is no longer there. AWS: a minute or two ("EC2 Auto Scaling User Guide,
    /// Health checks for instances in an Auto Scaling group").
    pub health_check: Duration,
    /// From a launch that fails to its `Failed` activity. AWS: seconds (*assumed*).
    pub failure: Duration,
    /// From there to the group's next attempt. AWS: about a minute at first, growing later (*assumed*).
    pub retry: Duration,
    /// How long `LaunchInstances` takes before it answers. AWS: a few seconds (*assumed*).
    pub launch_call: Duration,
    /// From a machine's SIGTERM to its SIGKILL. AWS: 90 s, systemd's default.
    pub kill_grace: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            pending: Duration::from_millis(100),
            boot: Duration::ZERO,
            load: Duration::ZERO,
            hook: Duration::from_millis(10),
            describe_lag: Duration::ZERO,
            proceed: Duration::from_millis(10),
            terminating: Duration::from_millis(100),
            health_check: Duration::from_millis(300),
            failure: Duration::from_millis(50),
            retry: Duration::from_millis(500),
            launch_call: Duration::from_millis(20),
            kill_grace: Duration::from_millis(200),
        }
    }
}

/// An Auto Scaling group.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    pub name: String,
    pub min: usize,
    pub max: usize,
    /// At the start.
    pub desired: usize,
    /// `NewInstancesProtectedFromScaleIn`.
    pub is_protecting: bool,
    /// `CapacityRebalance`.
    pub is_rebalancing: bool,
    /// One subnet each, in the same order.
    pub zones: Vec<String>,
    /// Names of processes, such as `AZRebalance`.
    pub suspended: Vec<String>,
    /// Its name; none for a group with a launch configuration.
    pub launch_template: Option<String>,
    pub instance_type: String,
    pub market: Market,
    pub tags: BTreeMap<String, String>,
    pub hooks: Vec<Hook>,
    /// Whether the group says that it has a warm pool.
    pub has_warm_pool: bool,
    /// Whether instances may read their tags: `InstanceMetadataTags` of the launch template, off by default.
    pub has_tags_in_metadata: bool,
    /// Whether lowering the desired capacity also ends instances that are still pending: they have no protection yet.
    /// Which AWS does is *assumed* either way.
    pub is_pending_trimmed: bool,
    pub times: Times,
    pub machine: MachineConfig,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            name: "gpu".to_owned(),
            min: 0,
            max: 5,
            desired: 0,
            is_protecting: true,
            is_rebalancing: false,
            zones: vec!["us-east-1a".to_owned()],
            suspended: vec!["AZRebalance".to_owned()],
            launch_template: Some("gpu-template".to_owned()),
            instance_type: "g6.xlarge".to_owned(),
            market: Market::OnDemand,
            tags: BTreeMap::new(),
            hooks: Vec::new(),
            has_warm_pool: false,
            has_tags_in_metadata: false,
            is_pending_trimmed: false,
            times: Times::default(),
            machine: MachineConfig::default(),
        }
    }
}

impl GroupConfig {
    /// The subnet that stands for a zone.
    pub fn subnet(&self, zone: &str) -> String {
        format!("subnet-{zone}")
    }

    pub fn is_suspended(&self, process: &str) -> bool {
        self.suspended.iter().any(|name| name == process)
    }
}

/// How instances are paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Market {
    OnDemand,
    Spot,
}

/// A lifecycle hook.
#[derive(Debug, Clone)]
pub struct Hook {
    pub name: String,
    pub transition: Transition,
    /// AWS allows 30 to 7200 s; here anything, so that tests need not wait for it.
    pub heartbeat: Duration,
    pub default_result: HookResult,
}

impl Hook {
    /// A terminating hook as the module for this gateway has it.
    pub fn terminating(name: &str, heartbeat: Duration) -> Self {
        Self {
            name: name.to_owned(),
            transition: Transition::Terminating,
            heartbeat,
            default_result: HookResult::Continue,
        }
    }

    pub fn launching(name: &str, heartbeat: Duration, default_result: HookResult) -> Self {
        Self { name: name.to_owned(), transition: Transition::Launching, heartbeat, default_result }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    Launching,
    Terminating,
}

impl Transition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Launching => "autoscaling:EC2_INSTANCE_LAUNCHING",
            Self::Terminating => "autoscaling:EC2_INSTANCE_TERMINATING",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookResult {
    Continue,
    Abandon,
}

impl HookResult {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "CONTINUE",
            Self::Abandon => "ABANDON",
        }
    }
}

/// What an instance of a group runs.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    pub llama: LlamaConfig,
    pub agent: AgentConfig,
    /// What the metadata tell as `ipv6`.
    pub ipv6: Option<Ipv6Addr>,
    /// Whether the metadata server listens on `[::1]`.
    pub has_imds_on_ipv6: bool,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            llama: LlamaConfig::Fake(FakeConfig::default()),
            agent: AgentConfig::Never,
            ipv6: None,
            has_imds_on_ipv6: false,
        }
    }
}

/// Which llama.cpp.
#[derive(Debug, Clone)]
pub enum LlamaConfig {
    /// None: for tests that look at the group alone.
    Never,
    Fake(FakeConfig),
    Real(RealOptions),
}

/// Which agent.
#[derive(Debug, Clone)]
pub enum AgentConfig {
    /// None: such an instance never registers.
    Never,
    /// `paddock agent`, a process.
    Started {
        management: Vec<SocketAddr>,
        external: External,
        /// Further flags.
        flags: Vec<String>,
    },
}

impl AgentConfig {
    /// An agent that knows its machine by the metadata and reports to one balancer ten times a second.
    pub fn reporting_to(management: SocketAddr) -> Self {
        Self::Started {
            management: vec![management],
            external: External::Metadata,
            flags: vec!["--monitoring-interval".to_owned(), "100ms".to_owned()],
        }
    }
}

/// How the agent is told where balancers reach its llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum External {
    /// `aws:metadata:local-ipv4`.
    Metadata,
    /// The address itself; the instance's id comes as a flag.
    Plain,
}
