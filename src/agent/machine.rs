//! What an EC2 instance says about itself: who it is, and that it is about to end.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::sync::watch::Sender;
use tokio::time::sleep;
use tracing::{info, warn};

use super::imds::{Imds, ImdsError};
use crate::protocol::DrainReason;

/// Between two looks for notices: what the EC2 User Guide recommends in "Spot Instance interruption notices". One of two
/// minutes leaves no time for less, and three questions to the own host cost nothing.
const NOTICE_INTERVAL: Duration = Duration::from_secs(5);

/// The first pause while the machine is not known yet: the network of a fresh instance may be late by moments.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The instance identity document (EC2 User Guide, "Retrieve the instance identity document for your EC2 instance").
const IDENTITY_DOCUMENT: &str = "/latest/dynamic/instance-identity/document";

/// The tag that Auto Scaling gives its instances; there only if the instance's metadata options let tags be seen.
pub(crate) const GROUP_TAG: &str = "tags/instance/aws:autoscaling:groupName";

/// All that is known of the machine by now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Machine {
    /// Who it is.
    pub facts: Facts,
    /// AWS is about to end it.
    pub ending: Option<Ending>,
    /// Where its Auto Scaling group wants it.
    pub target: Option<Target>,
    /// The agent itself is about to end it.
    pub is_orphan: bool,
}

/// Where an Auto Scaling group wants an instance that is launched (EC2 Auto Scaling User Guide, "Retrieve the target
/// lifecycle state through instance metadata").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// With those that serve.
    InService,
    /// In its warm pool, in whichever state.
    Warmed,
}

impl Machine {
    /// Why nothing new may be sent here; none if it may.
    #[must_use]
    pub fn drain(&self) -> Option<Ending> {
        let orphan = self.is_orphan.then_some(Ending { reason: DrainReason::LifecycleTermination, at: None });
        self.ending.or(orphan)
    }
}

/// What does not change while the machine runs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Its instance id.
    pub instance_id: Option<String>,
    /// Its availability zone.
    pub zone: Option<String>,
    /// Its Auto Scaling group.
    pub group: Option<String>,
    /// When it was launched, since the Unix epoch.
    pub launched: Option<Duration>,
}

/// The machine is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// Why.
    pub reason: DrainReason,
    /// When, since the Unix epoch, where that is known.
    pub at: Option<Duration>,
}

impl Ending {
    /// Whether AWS has begun to end the machine, rather than said that it may.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        match self.reason {
            DrainReason::SpotInterruption | DrainReason::LifecycleTermination => true,
            DrainReason::RebalanceRecommendation | DrainReason::Other => false,
        }
    }
}

/// Asks for the facts until they are known and for notices for ever. While the metadata does not answer, nothing changes.
pub(super) async fn follow(mut imds: Imds, machine: Sender<Machine>) {
    let mut notices = Notices::default();
    let mut is_known = false;
    let mut is_failing = false;
    let mut pause = FIRST_PAUSE;
    loop {
        let facts = if is_known { Ok(None) } else { facts(&mut imds).await.map(Some) };
        let looked = notices.look(&mut imds).await;
        is_known = facts.is_ok();
        let (facts, asked) = match facts {
            Ok(facts) => (facts, looked),
            Err(error) => (None, Err(error)),
        };
        machine.send_if_modified(|machine| note(machine, facts, &notices));
        match &asked {
            Err(error) if !is_failing => warn!(
                "{error}; asking on. From within a container it needs a hop limit of 2; where it is off on purpose, set \
                 AWS_EC2_METADATA_DISABLED=true"
            ),
            Ok(()) if is_failing => info!("the EC2 instance metadata answers again"),
            Err(_) | Ok(()) => {}
        }
        is_failing = asked.is_err();
        sleep(pause).await;
        pause = if is_known { NOTICE_INTERVAL } else { (pause * 2).min(NOTICE_INTERVAL) };
    }
}

/// Whether it changes anything.
fn note(machine: &mut Machine, facts: Option<Facts>, notices: &Notices) -> bool {
    let before = machine.clone();
    let ending = notices.first();
    if let Some(facts) = facts {
        machine.facts = facts;
    }
    machine.ending = ending;
    machine.target = notices.target;
    match (before.ending, ending) {
        (before, Some(ending)) if before != Some(ending) => {
            warn!(reason = ?ending.reason, "AWS is about to end this instance: nothing new is to be sent here");
        }
        (Some(_), None) => info!("AWS is not about to end this instance any more"),
        (Some(_) | None, Some(_)) | (None, None) => {}
    }
    *machine != before
}

async fn facts(imds: &mut Imds) -> Result<Facts, ImdsError> {
    /// What the document is read for.
    #[derive(Deserialize)]
    struct Identity {
        #[serde(rename = "pendingTime")]
        pending_time: String,
    }
    let document = imds.get(IDENTITY_DOCUMENT).await?;
    let identity = document.and_then(|document| serde_json::from_str::<Identity>(&document).ok());
    Ok(Facts {
        instance_id: imds.entry("instance-id").await?,
        zone: imds.entry("placement/availability-zone").await?,
        group: imds.entry(GROUP_TAG).await?,
        launched: identity.and_then(|identity| time(&identity.pending_time)),
    })
}

/// What was last told of each kind, most urgent first.
#[derive(Debug, Default)]
struct Notices {
    spot: Option<Ending>,
    lifecycle: Option<Ending>,
    rebalance: Option<Ending>,
    target: Option<Target>,
}

impl Notices {
    /// Looks at each kind. Where there is no answer, what was told before stands.
    ///
    /// 1. `spot/instance-action` is there, with whatever action: the spot market takes the machine back at `time` (EC2 User
    ///    Guide, "Spot Instance interruption notices").
    /// 2. `autoscaling/target-lifecycle-state` is `Terminated`, or the same for an instance of a warm pool: its group ends
    ///    it, or lets it wait before the end; how long is not told (EC2 Auto Scaling User Guide, "Retrieve the target
    ///    lifecycle state through instance metadata"). Any other state is none, and takes the notice back.
    /// 3. `events/recommendations/rebalance` is there: it may be taken back soon (EC2 User Guide, "EC2 instance rebalance
    ///    recommendations").
    async fn look(&mut self, imds: &mut Imds) -> Result<(), ImdsError> {
        let spot = imds.entry("spot/instance-action").await.map(|told| {
            self.spot =
                told.map(|told| Ending { reason: DrainReason::SpotInterruption, at: action_time(&told) });
        });
        if matches!(spot, Err(ImdsError::Silent { .. })) {
            // Nor would it answer the others.
            return spot;
        }
        let lifecycle = imds.entry("autoscaling/target-lifecycle-state").await.map(|told| {
            // One of a warm pool may be stopped at any moment: nothing may be sent there before it is in service.
            let told = told.unwrap_or_default();
            let is_warmed = told.starts_with("Warmed:");
            self.target = match told.as_str() {
                "InService" => Some(Target::InService),
                // On its way out of the pool, past service.
                "Warmed:Terminated" => None,
                _ => is_warmed.then_some(Target::Warmed),
            };
            let is_end = told == "Terminated" || is_warmed;
            self.lifecycle = is_end.then_some(Ending { reason: DrainReason::LifecycleTermination, at: None });
        });
        let rebalance = imds.entry("events/recommendations/rebalance").await.map(|told| {
            self.rebalance = told.map(|_| Ending { reason: DrainReason::RebalanceRecommendation, at: None });
        });
        spot.and(lifecycle).and(rebalance)
    }

    fn first(&self) -> Option<Ending> {
        self.spot.or(self.lifecycle).or(self.rebalance)
    }
}

/// When the spot market acts; none if that cannot be read.
fn action_time(told: &str) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Action {
        time: String,
    }
    time(&serde_json::from_str::<Action>(told).ok()?.time)
}

/// A time such as `2017-09-18T08:22:00Z`, since the Unix epoch.
fn time(text: &str) -> Option<Duration> {
    humantime::parse_rfc3339(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch::{Receiver, channel};
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::super::imds::tests::FakeImds;
    use super::*;

    const SPOT: &str = "meta-data/spot/instance-action";
    const REBALANCE: &str = "meta-data/events/recommendations/rebalance";
    const LIFECYCLE: &str = "meta-data/autoscaling/target-lifecycle-state";

    async fn first_of(fake: &FakeImds, notices: &mut Notices) -> Option<DrainReason> {
        notices.look(&mut fake.imds()).await.unwrap();
        notices.first().map(|ending| ending.reason)
    }

    #[tokio::test]
    async fn the_most_urgent_notice_counts_and_each_may_go_away() {
        let fake = FakeImds::start(&[(LIFECYCLE, "InService")]).await;
        let mut notices = Notices::default();
        assert_eq!(first_of(&fake, &mut notices).await, None);
        fake.set(REBALANCE, Some(r#"{"noticeTime":"2020-10-27T08:22:00Z"}"#));
        assert_eq!(first_of(&fake, &mut notices).await, Some(DrainReason::RebalanceRecommendation));
        fake.set(LIFECYCLE, Some("Terminated"));
        assert_eq!(first_of(&fake, &mut notices).await, Some(DrainReason::LifecycleTermination));
        fake.set(SPOT, Some(r#"{"action":"terminate","time":"1970-01-02T00:00:00Z"}"#));
        assert_eq!(first_of(&fake, &mut notices).await, Some(DrainReason::SpotInterruption));
        assert_eq!(notices.first().unwrap().at, Some(Duration::from_secs(24 * 60 * 60)));
        fake.set(SPOT, None);
        fake.set(REBALANCE, None);
        assert_eq!(first_of(&fake, &mut notices).await, Some(DrainReason::LifecycleTermination));
        for state in ["InService", "Standby", "Detached"] {
            for end in
                ["Terminated", "Warmed:Terminated", "Warmed:Stopped", "Warmed:Running", "Warmed:Hibernated"]
            {
                fake.set(LIFECYCLE, Some(end));
                assert_eq!(
                    first_of(&fake, &mut notices).await,
                    Some(DrainReason::LifecycleTermination),
                    "{end}"
                );
            }
            fake.set(LIFECYCLE, Some(state));
            assert_eq!(first_of(&fake, &mut notices).await, None, "{state}");
        }
    }

    #[tokio::test]
    async fn a_notice_counts_also_where_its_time_cannot_be_read() {
        let fake = FakeImds::start(&[]).await;
        for told in ["", "{}", r#"{"action":"hibernate"}"#, r#"{"action":"stop","time":"soon"}"#] {
            fake.set(SPOT, Some(told));
            let mut notices = Notices::default();
            assert_eq!(first_of(&fake, &mut notices).await, Some(DrainReason::SpotInterruption), "{told}");
            assert_eq!(notices.first().unwrap().at, None, "{told}");
        }
    }

    #[tokio::test]
    async fn what_does_not_answer_changes_nothing() {
        let fake = FakeImds::start(&[(LIFECYCLE, "Terminated")]).await;
        let mut notices = Notices::default();
        first_of(&fake, &mut notices).await.unwrap();
        fake.fail(Some(500));
        assert!(notices.look(&mut fake.imds()).await.is_err());
        assert_eq!(notices.first().unwrap().reason, DrainReason::LifecycleTermination);
    }

    struct Following {
        task: JoinHandle<()>,
        machine: Receiver<Machine>,
    }

    impl Following {
        fn start(fake: &FakeImds) -> Self {
            let (sender, machine) = channel(Machine::default());
            Self { task: tokio::spawn(follow(fake.imds(), sender)), machine }
        }

        async fn until(&mut self, is: impl FnMut(&Machine) -> bool) -> Machine {
            timeout(Duration::from_secs(60), self.machine.wait_for(is)).await.unwrap().unwrap().clone()
        }
    }

    impl Drop for Following {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    #[tokio::test]
    async fn the_facts_are_told_once_they_are_known() {
        let fake = FakeImds::start(&[
            ("meta-data/instance-id", "i-0123456789abcdef0"),
            ("meta-data/placement/availability-zone", "eu-central-1a"),
            (
                "dynamic/instance-identity/document",
                r#"{"pendingTime" : "1970-01-01T00:01:40Z", "instanceId" : "i-0123456789abcdef0"}"#,
            ),
        ])
        .await;
        fake.fail(Some(503));
        let mut following = Following::start(&fake);
        timeout(Duration::from_secs(60), async {
            while fake.asked() < 2 {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .unwrap();
        assert_eq!(*following.machine.borrow(), Machine::default());
        fake.fail(None);
        let machine = following.until(|machine| machine.facts.instance_id.is_some()).await;
        let facts = Facts {
            instance_id: Some("i-0123456789abcdef0".to_owned()),
            zone: Some("eu-central-1a".to_owned()),
            group: None,
            launched: Some(Duration::from_secs(100)),
        };
        assert_eq!(machine, Machine { facts, ..Machine::default() });
    }

    #[tokio::test]
    async fn a_notice_is_told_and_taken_back() {
        let group = "meta-data/tags/instance/aws:autoscaling:groupName";
        let fake = FakeImds::start(&[(group, "gpus"), (LIFECYCLE, "Terminated")]).await;
        let mut following = Following::start(&fake);
        let machine = following.until(|machine| machine.ending.is_some()).await;
        assert_eq!(machine.facts.group.as_deref(), Some("gpus"));
        fake.set(LIFECYCLE, Some("InService"));
        let after = following.until(|machine| machine.ending.is_none()).await;
        assert_eq!((after.facts, after.target), (machine.facts, Some(Target::InService)));
    }

    #[tokio::test]
    async fn where_the_group_wants_the_instance_is_told() {
        let fake = FakeImds::start(&[]).await;
        let mut notices = Notices::default();
        for (told, target) in [
            (None, None),
            (Some("Warmed:Stopped"), Some(Target::Warmed)),
            (Some("Warmed:Hibernated"), Some(Target::Warmed)),
            (Some("Warmed:Running"), Some(Target::Warmed)),
            (Some("Warmed:Terminated"), None),
            (Some("InService"), Some(Target::InService)),
            (Some("Standby"), None),
            (Some("Terminated"), None),
        ] {
            fake.set(LIFECYCLE, told);
            notices.look(&mut fake.imds()).await.unwrap();
            assert_eq!(notices.target, target, "{told:?}");
        }
    }

    #[test]
    fn an_orphan_drains_as_one_that_its_group_ends() {
        let spot = Ending { reason: DrainReason::SpotInterruption, at: Some(Duration::ZERO) };
        let orphan = Machine { is_orphan: true, ..Machine::default() };
        assert_eq!(orphan.drain().unwrap().reason, DrainReason::LifecycleTermination);
        assert_eq!(Machine { ending: Some(spot), ..orphan }.drain(), Some(spot));
        assert_eq!(Machine::default().drain(), None);
    }
}
