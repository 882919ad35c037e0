//! What the EC2 metadata say about this machine.

use super::DoctorConfig;
use super::report::Check;
use crate::agent::{GROUP_TAG, Imds, ImdsError, Presence};

/// What the metadata say. Each is none where there is no such entry.
#[derive(Debug, Default)]
struct Told {
    instance: Option<String>,
    region: Option<String>,
    address: Option<String>,
    group: Option<String>,
}

/// The checks, and the machine's instance id.
pub(super) async fn look(config: &DoctorConfig) -> (Vec<Check>, Option<String>) {
    let is_agents = config.llamacpp.is_some();
    let told = match Presence::detect() {
        Presence::Likely => Some(ask().await),
        Presence::Forbidden | Presence::Unlikely => None,
    };
    let given = config.instance_id.clone();
    let instance = given.or_else(|| told.as_ref()?.as_ref().ok()?.instance.clone());
    (judge(Presence::detect(), told.as_ref(), is_agents), instance)
}

async fn ask() -> Result<Told, ImdsError> {
    let mut imds = Imds::from_environment();
    Ok(Told {
        instance: imds.entry("instance-id").await?,
        region: imds.entry("placement/region").await?,
        address: imds.entry("local-ipv4").await?,
        group: imds.entry(GROUP_TAG).await?,
    })
}

fn judge(presence: Presence, told: Option<&Result<Told, ImdsError>>, is_agents: bool) -> Vec<Check> {
    const NAME: &str = "metadata";
    const GROUP: &str = "metadata-group";
    let told = match (presence, told) {
        (Presence::Forbidden, _) => {
            return vec![Check::skip(NAME, "", "AWS_EC2_METADATA_DISABLED forbids to ask")];
        }
        (Presence::Unlikely, _) | (Presence::Likely, None) => {
            return vec![Check::skip(NAME, "", "no instance metadata here: not on EC2?")];
        }
        (Presence::Likely, Some(Ok(told))) => told,
        (Presence::Likely, Some(Err(error))) => {
            let mend = "turn on the instance's metadata service; in a container its hop limit must be 2 \
                        (HttpPutResponseHopLimit)";
            return vec![Check::fail(NAME, "", error.to_string(), mend)];
        }
    };
    let or_none = |text: &Option<String>| text.as_deref().unwrap_or("none").to_owned();
    let facts = format!(
        "instance {}, {}, local-ipv4 {}",
        or_none(&told.instance),
        or_none(&told.region),
        or_none(&told.address)
    );
    let mut checks = vec![match &told.instance {
        Some(_) => Check::ok(NAME, "", facts),
        None => Check::warn(
            NAME,
            "",
            facts,
            "whatever answers there is not EC2's: mend AWS_EC2_METADATA_SERVICE_ENDPOINT",
        ),
    }];
    match &told.group {
        Some(group) => checks.push(Check::ok(GROUP, "", format!("of the Auto Scaling group {group}"))),
        None if is_agents => checks.push(Check::warn(
            GROUP,
            "",
            "the instance's tags do not tell its group, so the balancer does not know it before its first look",
            "set InstanceMetadataTags to enabled in the launch template",
        )),
        None => {}
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn told() -> Told {
        let some = |text: &str| Some(text.to_owned());
        Told {
            instance: some("i-1"),
            region: some("eu-central-1"),
            address: some("10.0.0.7"),
            group: some("gpu"),
        }
    }

    fn verdicts(checks: &[Check]) -> Vec<Verdict> {
        checks.iter().map(|check| check.verdict).collect()
    }

    #[test]
    fn without_metadata_nothing_is_wrong() {
        for (presence, says) in [(Presence::Forbidden, "forbids"), (Presence::Unlikely, "not on EC2?")] {
            let checks = judge(presence, None, true);
            assert_eq!(verdicts(&checks), [Verdict::Skip]);
            assert!(checks[0].found.contains(says), "{checks:?}");
        }
    }

    #[test]
    fn what_they_tell_is_shown_and_what_they_lack_is_said() {
        let checks = judge(Presence::Likely, Some(&Ok(told())), true);
        assert_eq!(verdicts(&checks), [Verdict::Ok, Verdict::Ok]);
        assert_eq!(checks[0].found, "instance i-1, eu-central-1, local-ipv4 10.0.0.7");
        assert_eq!(checks[1].found, "of the Auto Scaling group gpu");
        let untagged = || Ok(Told { group: None, ..told() });
        assert_eq!(verdicts(&judge(Presence::Likely, Some(&untagged()), true)), [Verdict::Ok, Verdict::Warn]);
        let balancers = judge(Presence::Likely, Some(&untagged()), false);
        assert_eq!(verdicts(&balancers), [Verdict::Ok], "the balancer's own machine has no group");
        assert_eq!(verdicts(&judge(Presence::Likely, Some(&Ok(Told::default())), false)), [Verdict::Warn]);
    }

    #[test]
    fn metadata_that_are_silent_are_a_failure() {
        let silent = ImdsError::Silent { path: "/x".to_owned(), cause: "timed out".to_owned() };
        let checks = judge(Presence::Likely, Some(&Err(silent)), false);
        assert_eq!(verdicts(&checks), [Verdict::Fail]);
        assert!(checks[0].mend.as_deref().unwrap().contains("hop limit"), "{checks:?}");
    }
}
