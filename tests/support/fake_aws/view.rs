//! What `Describe*` sees of a group: with a lag, what was there a while ago.
//!
//! Changes become visible with a delay ("EC2 API Reference, Eventual consistency in the Amazon EC2 API"); that Auto
//! Scaling's own answers lag too, and all of them alike, is *assumed*.

use std::collections::VecDeque;

use paddock::core::Mono;

use super::group::Group;
use super::instance::Instance;

/// A group at one moment.
#[derive(Debug, Clone)]
pub struct View {
    pub desired: usize,
    /// In the order of their launches.
    pub instances: Vec<Instance>,
}

/// The views of the last moments, oldest first.
#[derive(Debug, Default)]
pub struct Views(VecDeque<(Mono, View)>);

impl Group {
    /// As it is shown now.
    pub fn view(&self, now: Mono) -> View {
        let is_due = |at: Mono| at + self.config.times.describe_lag <= now;
        let kept = &self.views.0;
        match kept.iter().rfind(|(at, _)| is_due(*at)).or(kept.front()) {
            Some((_, view)) => view.clone(),
            None => self.view_without_lag(now),
        }
    }

    fn view_without_lag(&self, now: Mono) -> View {
        View { desired: self.desired(), instances: self.shown(now).cloned().collect() }
    }

    /// Keeps how it is now, for as long as somebody may be shown it.
    pub(super) fn keep_view(&mut self, now: Mono) {
        let lag = self.config.times.describe_lag;
        if lag.is_zero() {
            self.views.0.clear();
            return;
        }
        while self.views.0.get(1).is_some_and(|(at, _)| *at + lag <= now) {
            self.views.0.pop_front();
        }
        let view = self.view_without_lag(now);
        self.views.0.push_back((now, view));
    }
}
