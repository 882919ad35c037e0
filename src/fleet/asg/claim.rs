//! Balancers' claims on a group, in a tag of it: so that two balancers on one group, by mistake, know of each other.
//!
//! A balancer ends what it launched, and what registered with it. An instance that did neither may still serve: another
//! balancer. So while somebody else's claim is fresh, and while none of its own can be made, such an instance is left
//! alone.
//!
//! The tag's value is a list of claims, `NAME SECONDS` each, separated by `;`. Each balancer renews its own and keeps
//! those of others until they are old. Two that write at once may lose one of the two; it is written again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_autoscaling::types::{AutoScalingGroup, Tag};
use sha2::{Digest, Sha256};

use super::AsgFleet;
use crate::aws::CallError;
use crate::core::GroupId;

/// The tag's key.
const KEY: &str = "paddock:balancers";

/// A claim is renewed when it is this old. Looks at groups that rest come every minute.
const RENEWED_AFTER: Duration = Duration::from_secs(180);

/// A claim that was not renewed for so long is nobody's: three renewals were missed.
const VALID: Duration = Duration::from_secs(600);

/// Claims that are kept in a tag, the latest: its value holds 256 characters (EC2 Auto Scaling API, Tag), a claim 27.
const CLAIMS_MAX: usize = 8;

/// This balancer's claim.
#[derive(Debug)]
pub(super) struct Claim {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When this balancer's own claim was last written, or tried to be.
    written: BTreeMap<GroupId, Duration>,
    /// The foreign claims that were seen first, to tell one that is renewed from one that a former life left.
    foreign: BTreeMap<GroupId, BTreeMap<String, Duration>>,
    /// Groups on which no claim can be made.
    refused: BTreeSet<GroupId>,
}

/// The claims on a group, as they stand there.
pub(super) fn of(group: &AutoScalingGroup) -> Option<String> {
    let tag = group.tags().iter().find(|tag| tag.key() == Some(KEY))?;
    tag.value().map(str::to_owned)
}

/// How old the balancers' claims on a group are, without those that are nobody's any more. `wall` is the time since the Unix
/// epoch.
#[must_use]
pub fn claim_ages(group: &AutoScalingGroup, wall: Duration) -> Vec<Duration> {
    fresh(of(group).as_deref(), wall).into_values().map(|at| wall.saturating_sub(at)).collect()
}

/// Each fresh claim's name, and when it was written, since the Unix epoch.
fn fresh(claims: Option<&str>, wall: Duration) -> BTreeMap<String, Duration> {
    let parse = |claim: &str| {
        let (name, at) = claim.split_once(' ')?;
        Some((name.to_owned(), Duration::from_secs(at.parse().ok()?)))
    };
    let claims = claims.unwrap_or_default().split(';').filter_map(parse);
    claims.filter(|(_, at)| wall.saturating_sub(*at) < VALID).collect()
}

impl Claim {
    /// Of the balancer with this management address, on this machine: its next life has the same name.
    pub(super) fn new(management: SocketAddr) -> Self {
        let host = rustix::system::uname();
        let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [host.nodename().to_bytes(), &machine, management.to_string().as_bytes()] {
            digest.update(part);
            digest.update([0]);
        }
        let name = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Self { name, state: Mutex::default() }
    }

    /// Whether somebody else works on the group, or may do so without our knowing. `wall` is the time since the Unix epoch.
    pub(super) fn has_rival(&self, group: GroupId, claims: Option<&str>, wall: Duration) -> bool {
        let mut foreign = fresh(claims, wall);
        foreign.remove(&self.name);
        let mut state = self.state();
        let known = state.foreign.entry(group).or_default();
        let is_alive = foreign.iter().any(|(name, at)| known.get(name).is_some_and(|before| before != at));
        let has_rival = !foreign.is_empty();
        if is_alive {
            tracing::warn!(
                %group,
                "another balancer works on this Auto Scaling group: end one of them, or give each a group of its own"
            );
        }
        *known = foreign;
        has_rival || state.refused.contains(&group)
    }

    /// What is to be written on the group, if it is time to.
    fn due(&self, group: GroupId, claims: Option<&str>, wall: Duration) -> Option<String> {
        let mut claims = fresh(claims, wall);
        let is_fresh = |at: Option<&Duration>| at.is_some_and(|&at| wall.saturating_sub(at) < RENEWED_AFTER);
        let is_tried = is_fresh(self.state().written.get(&group));
        if is_tried && self.state().refused.contains(&group) {
            return None;
        }
        // What was written a moment ago may not be shown yet; what was lost to somebody's writing is written at once.
        if is_tried && (is_fresh(claims.get(&self.name)) || claims.is_empty()) {
            return None;
        }
        claims.insert(self.name.clone(), wall);
        let mut latest: Vec<(Duration, String)> = claims.into_iter().map(|(name, at)| (at, name)).collect();
        latest.sort_unstable();
        let latest = latest.into_iter().rev().take(CLAIMS_MAX);
        let claims: Vec<String> = latest.map(|(at, name)| format!("{name} {}", at.as_secs())).collect();
        Some(claims.join(";"))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsgFleet {
    /// Writes this balancer's claim where it is missing or old. That it cannot be written is said once.
    pub(super) async fn renew_claims(&self, groups: &BTreeMap<GroupId, AutoScalingGroup>) {
        let wall = self.clock.now().wall;
        for (&id, group) in groups {
            let Some(name) = self.group_name(id) else { continue };
            let Some(value) = self.claim.due(id, of(group).as_deref(), wall) else { continue };
            let tag = Tag::builder().resource_id(name).resource_type("auto-scaling-group");
            let tag = tag.key(KEY).value(value).propagate_at_launch(false).build();
            let answer = self.writer.create_or_update_tags().tags(tag).send().await;
            let mut state = self.claim.state();
            state.written.insert(id, wall);
            match answer {
                Ok(_) => {
                    state.refused.remove(&id);
                }
                Err(error) => {
                    let error = CallError::of("autoscaling:CreateOrUpdateTags", &error);
                    if state.refused.insert(id) {
                        tracing::warn!(
                            group = name,
                            %error,
                            "cannot mark the group as this balancer's: instances that it neither launched nor saw \
                             registered are never ended"
                        );
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(0);

    fn claim() -> Claim {
        Claim::new(([127, 0, 0, 1], 8085).into())
    }

    #[test]
    fn a_balancer_is_told_from_another_one_and_not_from_its_own_next_life() {
        assert_eq!(claim().name, claim().name);
        assert_ne!(claim().name, Claim::new(([127, 0, 0, 1], 8086).into()).name);
        assert_eq!(claim().name.len(), 16);
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_foreign_claim_is_respected_while_it_is_fresh() {
        let claim = claim();
        assert!(!claim.has_rival(GROUP, None, secs(1000)));
        assert!(!claim.has_rival(GROUP, Some("nonsense;more of it"), secs(1000)));
        assert!(claim.has_rival(GROUP, Some("other 1000"), secs(1100)));
        assert!(claim.has_rival(GROUP, Some("other 1000"), secs(1599)));
        assert!(!claim.has_rival(GROUP, Some("other 1000"), secs(1600)));
        let own = format!("{} 1000", claim.name);
        assert!(!claim.has_rival(GROUP, Some(&own), secs(1100)));
        assert!(claim.has_rival(GROUP, Some(&format!("{own};other 900")), secs(1100)));
    }

    #[test]
    fn a_claim_is_written_beside_those_of_others_when_it_is_missing_or_old() {
        let claim = claim();
        let name = claim.name.clone();
        assert_eq!(claim.due(GROUP, None, secs(1000)), Some(format!("{name} 1000")));
        assert_eq!(claim.due(GROUP, Some("other 900"), secs(1000)), Some(format!("{name} 1000;other 900")));
        assert_eq!(
            claim.due(GROUP, Some("other 100"), secs(1000)),
            Some(format!("{name} 1000")),
            "it is old"
        );
        claim.state().written.insert(GROUP, secs(1000));
        assert_eq!(claim.due(GROUP, None, secs(1010)), None, "it may not be shown yet");
        assert_eq!(claim.due(GROUP, Some(&format!("{name} 1000")), secs(1179)), None);
        assert!(claim.due(GROUP, Some(&format!("{name} 1000")), secs(1180)).is_some());
        assert!(
            claim.due(GROUP, Some("other 1005"), secs(1010)).is_some(),
            "it was lost to somebody's writing"
        );
    }

    #[test]
    fn the_tag_is_bounded() {
        let claim = claim();
        let many: Vec<String> = (0..50).map(|n| format!("{n:016x} {}", 1_800_000_000 + n)).collect();
        let value = claim.due(GROUP, Some(&many.join(";")), secs(1_800_000_100)).unwrap();
        assert!(value.len() <= 256 && value.starts_with(&claim.name), "{value}");
    }

    #[test]
    fn without_a_claim_of_its_own_a_balancer_takes_nothing_for_its_own() {
        let claim = claim();
        claim.state().refused.insert(GROUP);
        assert!(claim.has_rival(GROUP, None, secs(1000)));
    }
}
