//! What will surprise about a group, or keep it from working: said at the balancer's start, and by `paddock doctor`.
//!
//! EC2 Auto Scaling User Guide: "Use instance scale-in protection", "Suspend and resume processes", "Capacity
//! Rebalancing", "Instance weighting", "Maximum instance lifetime".

use std::fmt;

use aws_sdk_autoscaling::types::AutoScalingGroup;

use super::AsgWake;

/// One setting of a group that notes are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// MinSize and MaxSize.
    Limits,
    /// Protection of new instances from scale-in.
    Protection,
    /// The suspension of what the group needs in order to launch and to end.
    Processes,
    /// Balancing of its zones.
    Zones,
    /// Capacity rebalancing.
    Rebalancing,
    /// The maximum instance lifetime.
    Lifetime,
    /// What its desired capacity counts.
    Unit,
    /// What its instances are launched from.
    Template,
}

impl Setting {
    /// In the order in which they are told.
    pub const ALL: [Self; 8] = [
        Self::Limits,
        Self::Protection,
        Self::Processes,
        Self::Zones,
        Self::Rebalancing,
        Self::Lifetime,
        Self::Unit,
        Self::Template,
    ];
}

/// Something about a group that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which setting.
    pub setting: Setting,
    /// Nothing can be started, or nothing ended.
    pub is_fatal: bool,
    /// What is so.
    pub found: String,
    /// What to do about it.
    pub mend: &'static str,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.found, self.mend)
    }
}

/// What there is to say about a group that is to hold up to `instances_max` instances, in the order of [`Setting::ALL`].
#[must_use]
pub fn notes(group: &AutoScalingGroup, instances_max: u32, wake: AsgWake) -> Vec<Note> {
    let (min, max) = (group.min_size().unwrap_or_default(), group.max_size().unwrap_or_default());
    let mut notes = Vec::new();
    let mut note = |setting, is_so: bool, found: &str, mend| {
        if is_so {
            notes.push(Note { setting, is_fatal: is_fatal(setting, max), found: found.to_owned(), mend });
        }
    };
    let is_less = u32::try_from(max).is_ok_and(|max| max < instances_max);
    let is_suspended =
        |name: &str| group.suspended_processes().iter().any(|process| process.process_name() == Some(name));
    let is_weighted = group.instances().iter().any(|instance| instance.weighted_capacity().is_some());
    let is_other_unit = group.desired_capacity_type().is_some_and(|unit| !unit.is_empty() && unit != "units");

    let always = format!("its MinSize is {min}: so many instances run and cost at all times");
    note(Setting::Limits, min > 0, &always, "set it to 0, unless that is meant");
    note(Setting::Limits, max == 0, "its MaxSize is 0: it can launch nothing", "raise it");
    let less = format!("its MaxSize is {max}, less than --max-instances {instances_max}: it holds too");
    note(Setting::Limits, max > 0 && is_less, &less, "raise it, or lower --max-instances");
    note(
        Setting::Protection,
        group.new_instances_protected_from_scale_in() != Some(true),
        "its instances are not protected from scale-in: whoever lowers its desired capacity may end one that serves, and \
         wishes that fail are left standing",
        "set NewInstancesProtectedFromScaleIn",
    );
    for (process, means) in [("Launch", "it launches nothing"), ("Terminate", "it ends nothing")] {
        let found = format!("its process {process} is suspended: {means}");
        note(Setting::Processes, is_suspended(process), &found, "resume it");
    }
    note(
        Setting::Zones,
        group.availability_zones().len() > 1 && !is_suspended("AZRebalance"),
        "AWS may end instances that serve to balance its zones",
        "suspend its process AZRebalance",
    );
    note(
        Setting::Rebalancing,
        group.capacity_rebalance() == Some(true),
        "it replaces spot instances on a mere recommendation",
        "turn its capacity rebalancing off",
    );
    note(
        Setting::Lifetime,
        group.max_instance_lifetime().is_some_and(|lifetime| lifetime > 0),
        "it has a maximum instance lifetime: AWS ends instances that serve",
        "set its maximum instance lifetime to 0",
    );
    note(
        Setting::Unit,
        is_weighted || is_other_unit,
        "its desired capacity does not count instances",
        "remove its weights and set its unit to 'units'",
    );
    note(
        Setting::Template,
        wake == AsgWake::LaunchInstances
            && group.launch_template().is_none()
            && group.mixed_instances_policy().is_none(),
        "--asg-wake launch-instances needs a launch template, and it has none",
        "give it one, or leave the flag out",
    );
    notes
}

/// Whether the group can launch or end nothing at all if something is wrong with this setting.
fn is_fatal(setting: Setting, max: i32) -> bool {
    match setting {
        Setting::Limits => max == 0,
        Setting::Processes | Setting::Template => true,
        Setting::Protection | Setting::Zones | Setting::Rebalancing | Setting::Lifetime | Setting::Unit => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_autoscaling::types::SuspendedProcess;
    use aws_sdk_autoscaling::types::builders::AutoScalingGroupBuilder;

    use super::*;

    fn good() -> AutoScalingGroupBuilder {
        AutoScalingGroup::builder()
            .min_size(0)
            .max_size(2)
            .new_instances_protected_from_scale_in(true)
            .availability_zones("a")
            .availability_zones("b")
            .suspended_processes(SuspendedProcess::builder().process_name("AZRebalance").build())
    }

    fn suspended(process: &str) -> AutoScalingGroupBuilder {
        good().suspended_processes(SuspendedProcess::builder().process_name(process).build())
    }

    #[test]
    fn nothing_is_said_about_a_good_group() {
        assert_eq!(notes(&good().build(), 2, AsgWake::SetDesiredCapacity), []);
    }

    #[test]
    fn what_will_surprise_is_said() {
        use Setting::{Lifetime, Limits, Processes, Protection, Rebalancing, Unit, Zones};
        for (group, setting, is_fatal, says) in [
            (good().min_size(1), Limits, false, "MinSize is 1"),
            (good().max_size(0), Limits, true, "MaxSize is 0: it can launch nothing; raise it"),
            (good().max_size(1), Limits, false, "less than --max-instances 2"),
            (
                good().new_instances_protected_from_scale_in(false),
                Protection,
                false,
                "; set NewInstancesProtectedFromScaleIn",
            ),
            (
                suspended("Launch"),
                Processes,
                true,
                "its process Launch is suspended: it launches nothing; resume it",
            ),
            (suspended("Terminate"), Processes, true, "Terminate is suspended"),
            (good().set_suspended_processes(None), Zones, false, "AZRebalance"),
            (good().capacity_rebalance(true), Rebalancing, false, "capacity rebalancing"),
            (good().max_instance_lifetime(86_400), Lifetime, false, "lifetime"),
            (good().desired_capacity_type("vcpu"), Unit, false, "weights"),
        ] {
            let notes = notes(&group.build(), 2, AsgWake::SetDesiredCapacity);
            let [note] = &notes[..] else { panic!("{says}: {notes:?}") };
            assert!(note.to_string().contains(says), "{says}: {note}");
            assert_eq!((note.setting, note.is_fatal), (setting, is_fatal), "{note}");
        }
        let notes = notes(&good().build(), 2, AsgWake::LaunchInstances);
        assert!(notes[0].to_string().contains("launch template") && notes[0].is_fatal, "{notes:?}");
    }
}
