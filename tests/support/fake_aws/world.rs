//! All groups of the account, found by their names and by their instances.

use std::collections::BTreeMap;

use paddock::core::Now;

use super::config::FakeAwsConfig;
use super::group::{Effect, Group};
use super::query::ApiError;

#[derive(Debug)]
pub struct World {
    pub region: String,
    pub groups: BTreeMap<String, Group>,
}

impl World {
    pub fn new(config: &FakeAwsConfig) -> Self {
        let groups = config.groups.iter().enumerate();
        let groups = groups.map(|(number, group)| (group.name.clone(), Group::new(group.clone(), number)));
        Self { region: config.region.clone(), groups: groups.collect() }
    }

    pub fn group(&mut self, name: &str) -> Result<&mut Group, ApiError> {
        self.groups.get_mut(name).ok_or_else(|| ApiError::no_group(name))
    }

    /// The group that an instance belongs to.
    pub fn group_of(&mut self, id: &str) -> Result<&mut Group, ApiError> {
        let mut groups = self.groups.values_mut();
        groups.find(|group| group.instances.contains_key(id)).ok_or_else(|| ApiError::no_instance(id))
    }

    pub fn tick(&mut self, now: Now) {
        for group in self.groups.values_mut() {
            group.tick(now);
        }
    }

    /// What the groups want done, each with its group's name.
    pub fn effects(&mut self) -> Vec<(String, Effect)> {
        let groups = self.groups.iter_mut();
        groups.flat_map(|(name, group)| group.effects().into_iter().map(|one| (name.clone(), one))).collect()
    }
}
