//! `paddock doctor`: looks at a set-up from where it stands, and says what is wrong and how to mend it.
//!
//! It changes nothing. What it asks of AWS beyond looking is what is there already: the desired capacity that a group has,
//! and only while nobody is known to work on the group; and the end of an instance that does not exist. One window remains:
//! whoever changes the wish between the last look at it and the question, and is neither a balancer that was asked nor one
//! that has marked the group, has it set back.
//!
//! What is asked for is decided by what is given: the flags are those of the balancer and of the agent, so that it runs
//! in the environment of either. Each file asks about one kind of thing, and judges the answers in functions of their own.

mod group;
mod llamacpp;
mod machine;
mod metadata;
mod network;
mod report;
mod skew;
mod work;

use std::path::PathBuf;

use crate::clock::Clock;
use crate::config::{HostPort, Secret};
use crate::fleet::AsgWake;

pub use report::{Check, Report, Verdict};

use skew::Skews;

/// What is looked at. What is not given is not.
#[derive(Debug, Clone)]
pub struct DoctorConfig {
    /// Where clients call the balancer.
    pub proxy: Option<HostPort>,
    /// The management address of each balancer.
    pub management: Vec<HostPort>,
    /// What they ask for as Bearer token.
    pub token: Option<Secret>,
    /// The file that the token is in.
    pub token_file: Option<PathBuf>,
    /// What is wrong with that file: what, `; ` and the mend.
    pub token_error: Option<String>,
    /// Where this machine reaches llama.cpp.
    pub llamacpp: Option<HostPort>,
    /// Where balancers reach it, if that is another address.
    pub llamacpp_external: Option<HostPort>,
    /// The key that llama-server was started with.
    pub llamacpp_api_key: Option<String>,
    /// Auto Scaling groups.
    pub groups: Vec<String>,
    /// How they are woken.
    pub wake: AsgWake,
    /// How many instances there may be in all.
    pub instances_max: u32,
    /// What this machine is called by its group; none to take what its metadata says.
    pub instance_id: Option<String>,
    /// Whether the agent is to end this machine when nobody needs it.
    pub ends_itself: bool,
    /// The hook that the agent completes while its group launches it.
    pub launching_hook: Option<String>,
    /// Where CloudWatch gets the metrics.
    pub cloudwatch_namespace: Option<String>,
    /// Where gauges are sent.
    pub statsd: Option<HostPort>,
    /// Where the ledger is kept.
    pub state_dir: Option<PathBuf>,
    /// The clients' keys.
    pub keys_file: Option<PathBuf>,
    /// The certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Connections of clients, in all.
    pub connections_max: usize,
    /// All request bodies that are held, in bytes.
    pub buffered_bytes_max: usize,
}

impl DoctorConfig {
    /// Whether a balancer is to run here, by what only a balancer is given.
    fn is_balancers(&self) -> bool {
        self.proxy.is_some() || !self.groups.is_empty() || self.tls.is_some() || self.keys_file.is_some()
    }
}

/// Looks at everything that is given, side by side. Each question has a limit of its own, so that this ends within a
/// minute and a half, whoever is silent.
pub async fn examine(config: &DoctorConfig, clock: Clock) -> Report {
    let skews = Skews::new(clock);
    // Nothing is asked of groups before balancers have said what they work on.
    let of_groups = async {
        let (network, (metadata, instance)) =
            tokio::join!(network::look(config, &skews), metadata::look(config));
        let groups = group::look(config, instance, &network.work, clock, &skews).await;
        (network, metadata, groups)
    };
    let (llamacpp, (network, metadata, groups)) = tokio::join!(llamacpp::look(config), of_groups);
    let parts = [
        network.checks,
        llamacpp,
        metadata,
        groups,
        group::cloudwatch(config, network.puts.as_ref()),
        vec![skews.check()],
        machine::look(config, clock.now().wall),
    ];
    Report::new(parts.into_iter().flatten().collect())
}
