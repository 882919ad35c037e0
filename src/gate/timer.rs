//! The one timer task.

use super::Gate;

impl Gate {
    /// Calls the core when its time has come, for ever. It is woken early only when the earliest deadline moves earlier.
    pub async fn run_timer(&self) {
        loop {
            let at = {
                let mut inner = self.lock();
                inner.timer_at = inner.core.poll_timeout().map(|(at, _)| at);
                inner.timer_at
            };
            let moved = self.shared.timer.notified();
            match at {
                None => moved.await,
                Some(at) => {
                    tokio::select! {
                        () = moved => continue,
                        () = tokio::time::sleep_until(self.shared.clock.instant(at)) => {}
                    }
                }
            }
            let mut inner = self.lock();
            inner.core.handle_timeout(self.now());
            let deeds = self.collect(&mut inner, None);
            drop(inner);
            self.carry_out(deeds);
        }
    }
}
